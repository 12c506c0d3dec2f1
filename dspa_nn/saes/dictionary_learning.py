"""Checkpoints of dictionary_learning, `ae.pt` beside `config.json`, as SAEs of SAELens.

`ae.pt` is a pickle, of which `torch.load(weights_only=True)` takes tensors alone. A BatchTopK SAE
of dictionary_learning encodes with one fixed threshold outside training,
relu(x) where relu(x) > threshold, so that what a token gives does not depend on the others: that is
SAELens' "jumprelu" with the same threshold for every latent.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from dspa_nn.errors import SAEError
from dspa_nn.files import as_path

WEIGHTS, CONFIG = "ae.pt", "config.json"


class _Kind(NamedTuple):
    """How a class of dictionary_learning is stored, and what it is called in SAELens."""

    architecture: str
    tensors: dict[str, str]
    transposed: bool = True
    centred: bool = True  # b_dec comes off what is encoded


_ENCODER = {"encoder.weight": "W_enc", "encoder.bias": "b_enc"}
_DECODER = {"decoder.weight": "W_dec", "b_dec": "b_dec"}
_THRESHOLD = {"threshold": "threshold"}
_BATCHTOPK = _Kind("jumprelu", _ENCODER | _DECODER | _THRESHOLD)
KINDS = {
    "BatchTopKSAE": _BATCHTOPK,
    "MatryoshkaBatchTopKSAE": _Kind(
        "jumprelu",
        {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")},
        transposed=False,
    ),
    "AutoEncoderTopK": _Kind("topk", _ENCODER | _DECODER),
    "AutoEncoder": _Kind(
        "standard", _ENCODER | {"decoder.weight": "W_dec", "bias": "b_dec"}
    ),
    "GatedAutoEncoder": _Kind(
        "gated",
        {
            "encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder_bias": "b_dec",
            "gate_bias": "b_gate", "mag_bias": "b_mag", "r_mag": "r_mag",
        },
    ),
    "JumpReluAutoEncoder": _Kind(
        "jumprelu",
        {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")},
        transposed=False,
        centred=False,
    ),
}  # fmt: skip


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one of dictionary_learning's.

    >>> is_checkpoint(Path(folder))
    False
    """
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def read_checkpoint(folder: str | Path) -> Any:
    """The SAE of a folder with `ae.pt` and `config.json`, as SAELens' own, on the CPU.

    >>> read_checkpoint("resid_post_layer_9/trainer_2")
    Traceback (most recent call last):
    dspa_nn.errors.SAEError: config.json of the checkpoint in 'resid_post_layer_9/trainer_2' ...

    `save_model` of what is returned writes a folder in safetensors that is loaded as any other.

    Raises:
        SAEError: a file that is missing, damaged or holds more than tensors, a class that is not
            known, or weights that are missing or of other shapes than the config says.
    """
    path = as_path(folder)
    trainer, weights = _read(path)
    named = str(trainer.get("dict_class"))
    if named not in KINDS:
        raise SAEError(
            f"the checkpoint in {str(path)!r} is of dictionary_learning's class {named!r}, which "
            f"is not converted here: use one of {', '.join(KINDS)}"
        )
    kind = KINDS[named]
    missing = [name for name in kind.tensors if name not in weights]
    if missing:
        raise SAEError(
            f"the checkpoint in {str(path)!r} has no {', '.join(missing)}, only "
            f"{', '.join(weights)}: give one that dictionary_learning's {named} saved"
        )
    state = {ours: weights[theirs] for theirs, ours in kind.tensors.items()}
    config = _config(trainer, kind, path)
    if kind.transposed:
        state |= {
            name: state[name].t().contiguous()
            for name in ("W_enc", "W_dec")
            if state[name].ndim == 2
        }
    if "threshold" in state and state["threshold"].ndim == 0:
        state["threshold"] = state["threshold"].repeat(config["d_sae"])
    shapes = config["d_in"], config["d_sae"]
    if tuple(state["W_enc"].shape) != shapes or tuple(state["W_dec"].shape) != shapes[::-1]:
        raise SAEError(
            f"the checkpoint in {str(path)!r} holds an encoder of {tuple(state['W_enc'].shape)} "
            f"and its config says {shapes}: give the config.json that was written beside it"
        )
    _check_vectors(state, config, kind, path)
    sae: Any = import_module("sae_lens").SAE.from_dict(config)
    sae.load_state_dict({name: tensor.to(torch.float32) for name, tensor in state.items()})
    return sae


def _check_vectors(
    state: dict[str, Tensor], config: dict[str, Any], kind: _Kind, path: Path
) -> None:
    """Refuse a bias or threshold that is not one number a latent, or b_dec of another width."""
    for theirs, ours in kind.tensors.items():
        if ours in ("W_enc", "W_dec"):
            continue
        expected = (config["d_in"] if ours == "b_dec" else config["d_sae"],)
        if tuple(state[ours].shape) != expected:
            raise SAEError(
                f"the checkpoint in {str(path)!r} holds {theirs} of {tuple(state[ours].shape)} "
                f"where {expected} belongs: it is damaged or of another SAE, so download it again"
            )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config: Any = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        trainer = cast(dict[str, Any], dict(config["trainer"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, CONFIG, error) from None
    try:
        loaded: Any = torch.load(path / WEIGHTS, map_location="cpu", weights_only=True)
        weights = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    except Exception as error:  # noqa: BLE001 - a damaged or harmful pickle raises what it likes
        raise _unreadable(path, WEIGHTS, error) from None
    return trainer, weights


def _unreadable(path: Path, name: str, error: Exception) -> SAEError:
    return SAEError(
        f"{name} of the checkpoint in {str(path)!r} cannot be read as what it should be "
        f"({type(error).__name__}): give a folder with {WEIGHTS}, which holds tensors alone, and "
        f"{CONFIG}, as dictionary_learning writes them"
    )


def _config(trainer: dict[str, Any], kind: _Kind, path: Path) -> dict[str, Any]:
    try:
        model, layer = str(trainer["lm_name"]), int(trainer["layer"])
        config: dict[str, Any] = {
            "architecture": kind.architecture,
            "d_in": int(trainer["activation_dim"]),
            "d_sae": int(trainer["dict_size"]),
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": kind.centred,
            "normalize_activations": "none",
            "metadata": {
                "model_name": model.rpartition("/")[2],
                "hook_name": f"blocks.{layer}.hook_resid_post",
            },
        }
        if kind.architecture == "topk":
            config["k"] = int(trainer["k"])
    except KeyError as error:
        raise SAEError(
            f"{CONFIG} in {str(path)!r} lacks {error} of its trainer: give the one that "
            "dictionary_learning wrote"
        ) from None
    except (TypeError, ValueError) as error:
        raise SAEError(
            f"{CONFIG} in {str(path)!r} says of its trainer what is no whole number ({error}): "
            "give the one that dictionary_learning wrote"
        ) from None
    return config
