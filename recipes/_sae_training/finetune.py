"""A published SAE as one that can be trained further, and back again in the form it came in."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.errors import SAEError
from dspa_nn.models import ModelFacts
from dspa_nn.saes import LoadedSAE, check_sae, load_sae

from .training import fit, shuffled

# Biases and thresholds are in the units of the inputs; encoder and decoder rows have none.
_IN_UNITS = ("b_enc", "b_dec", "threshold")
KINDS = ("jumprelu", "standard", "topk")


@dataclass(frozen=True)
class Settings:
    """How a published SAE is trained further. The paper gives none of these: they are ours.

    Attributes:
        epochs: passes over the activations, where no number of steps is given.
        steps: optimiser steps, or None for the epochs. batch: tokens to a step.
        lr: learning rate, a twentieth of what the embedded SAEs were trained with.
        warm_up, decay: shares of the steps in which it rises and falls.
        sparsity: weight of the sparsity loss of "jumprelu" (L0) and "standard" (L1), at inputs of
            mean norm sqrt(d_model). "topk" has none.
        bandwidth: of the straight-through gradient of "jumprelu"'s thresholds.
        dead_window: steps without firing after which a latent counts as dead.
    """

    epochs: float = 1.0
    steps: int | None = None
    batch: int = 2048
    lr: float = 5e-5
    warm_up: float = 0.05
    decay: float = 0.2
    sparsity: float = 1.0
    bandwidth: float = 0.05
    dead_window: int = 1000
    checkpoints: int = 5
    seed: int = 0


def load(source: str) -> Any:
    """A published SAE as SAELens has it: of a folder, or "release/sae_id".

    Raises:
        SAEError: it cannot be trained further here.
    """
    from sae_lens.saes.sae import SAE

    if Path(source).is_dir():
        sae = SAE.load_from_disk(source)
    else:
        release, _, sae_id = source.partition("/")
        sae = SAE.from_pretrained(release, sae_id)
    kind = sae.cfg.architecture()
    if kind not in KINDS or sae.cfg.normalize_activations in (
        "constant_norm_rescale", "layer_norm",
    ):  # fmt: skip
        raise SAEError(
            f"{source} is of type {kind!r} with normalize_activations="
            f"{sae.cfg.normalize_activations!r}, and those that are trained further are "
            f"{', '.join(KINDS)} without normalisation by token: take such an SAE"
        )
    return sae


def check(sae: Any, source: str, facts: ModelFacts) -> tuple[LoadedSAE, int]:
    """The published SAE as the package reads it and its layer, if it belongs to this model.

    Raises:
        SAEError: it is of another model, or does not say which layer it reads.
    """
    read = load_sae(sae)
    if read.layer is None:
        raise SAEError(
            f"{source} does not say which layer it reads: write hook_name into its config"
        )
    check_sae(
        read, layer=None, n_layers=facts.n_layers, d_model=facts.d_model,
        model_name=facts.model_id, role="published",
    )  # fmt: skip
    return read, read.layer


def trainable(sae: Any, scale: float, settings: Settings) -> Any:
    """The training SAE that encodes `scale` times an input to `scale` times the same latents."""
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.topk_sae import TopKTrainingSAE

    from .sparse import SparseTopKTrainingSAE

    made_by, config_type = get_sae_training_class(sae.cfg.architecture())
    # The sparse step is the same one, and faster on a CPU.
    made: Any = SparseTopKTrainingSAE if made_by is TopKTrainingSAE else made_by
    config: dict[str, Any] = {
        name: getattr(sae.cfg, name)
        for name in ("d_in", "d_sae", "apply_b_dec_to_input", "k", "rescale_acts_by_decoder_norm")
        if hasattr(sae.cfg, name)
    }
    config |= {
        "jumprelu": {"l0_coefficient": settings.sparsity, "jumprelu_bandwidth": settings.bandwidth},
        "standard": {"l1_coefficient": settings.sparsity},
        # As in the training of the embedded ones.
        "topk": {"aux_loss_coefficient": 1 / 32},
    }[sae.cfg.architecture()]
    training = made(config_type(**config, dtype="float32", normalize_activations="none"))
    state = {name: tensor.detach().float().clone() for name, tensor in sae.state_dict().items()}
    training.load_state_dict(scaled(state, scale))
    return training


def scaled(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights for inputs that are `scale` times as large."""
    return {name: tensor * scale if name in _IN_UNITS else tensor for name, tensor in state.items()}


def train(
    sae: Any, activations: Float[np.ndarray, "tokens d"], settings: Settings, work: Path
) -> Any:
    """Train a published SAE further, and return it in the form that it came in.

    The inputs are scaled to a mean norm of sqrt(d), so that the learning rate and the sparsity
    loss mean the same for every model; the weights are scaled back at the end.
    """
    torch.manual_seed(settings.seed)
    sample = torch.from_numpy(np.asarray(activations[:20_000], dtype=np.float32))
    scale = math.sqrt(sae.cfg.d_in) / sample.norm(dim=-1).mean().item()
    tokens = len(activations)
    if tokens < settings.batch:
        raise SAEError(
            f"{tokens} tokens came, and a step takes {settings.batch}: give more text, or a "
            "smaller --batch"
        )
    steps = settings.steps or math.ceil(settings.epochs * (tokens // settings.batch))
    batches = partial(shuffled, [activations], settings.batch, settings.seed)
    training = fit(
        trainable(sae, scale, settings), settings, steps, work,
        lambda start: (batch * scale for batch in batches(start)), log=work / "loss.jsonl",
    )  # fmt: skip
    state = scaled({name: t.detach() for name, t in training.state_dict().items()}, 1 / scale)
    own = sae.state_dict()
    sae.load_state_dict({name: state[name].to(own[name]) for name in own})
    return sae


def store(sae: Any, folder: Path, told: dict[str, Any], settings: Settings) -> None:
    """Write the SAE in SAELens' format, with a note of the training in its metadata."""
    sae.cfg.metadata.trained_further = told | {
        name: value for name, value in asdict(settings).items() if value is not None
    }
    sae.save_model(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors makes files that only their owner may read
