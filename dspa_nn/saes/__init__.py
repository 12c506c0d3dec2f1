"""Sparse autoencoders as plain tensors."""

from dspa_nn.graph.encode import SAE_TYPES, Encoder, SAEType
from dspa_nn.saes.compatibility import check_sae, residual_layer, same_model
from dspa_nn.saes.dictionary_learning import read_checkpoint
from dspa_nn.saes.loaded import LoadedSAE, cast
from dspa_nn.saes.loading import load_sae
from dspa_nn.saes.meanings import (
    LatentMeaning,
    Snippet,
    meanings_of,
    read_meanings,
    told_in_words,
    write_meanings,
)
from dspa_nn.saes.placement import layer_device, placed, read_device
from dspa_nn.saes.sources import repository_of, split_release
from dspa_nn.saes.types import REFUSED, register_sae_type, sae_types, saved_as

__all__ = [
    "REFUSED",
    "SAE_TYPES",
    "Encoder",
    "LatentMeaning",
    "LoadedSAE",
    "SAEType",
    "Snippet",
    "cast",
    "check_sae",
    "layer_device",
    "load_sae",
    "meanings_of",
    "placed",
    "read_checkpoint",
    "read_device",
    "read_meanings",
    "register_sae_type",
    "repository_of",
    "residual_layer",
    "sae_types",
    "same_model",
    "saved_as",
    "split_release",
    "told_in_words",
    "write_meanings",
]
