"""Loading an SAE: config and weights are checked, then reduced to plain tensors and a rule."""

import hashlib
import json
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.errors import SAEError
from dspa_nn.graph.encode import Encoder
from dspa_nn.progress import warn
from dspa_nn.saes.compatibility import residual_layer
from dspa_nn.saes.loaded import LoadedSAE, rule_of
from dspa_nn.saes.placement import read_device
from dspa_nn.saes.sources import SAEConfig, open_source
from dspa_nn.saes.types import latents_of, sae_types

_PER_TOKEN = ("constant_norm_rescale", "layer_norm")
# These scale the training data; SAELens folds them into the weights and ignores them at run time.
_FOLDED = ("expected_average_only_in", "covariance_whitening")


def load_sae(source: object, *, device: torch.device | str | None = None) -> LoadedSAE:
    """Load a residual-stream SAE and reduce it to plain tensors and a rule.

    Example:
        >>> load_sae(folder)
        LoadedSAE(sae: topk, 48 latents of 32, float32, layer 1, sha256 ...)

    and from the hub:
        >>> release = "gemma-scope-2b-pt-res-canonical"
        >>> load_sae(f"{release}/layer_7/width_16k/canonical")  # doctest: +SKIP

    Every type that SAELens ships is handled as SAELens runs it at inference, or refused by name:
    temporal SAEs, transcoders, and SAEs of attention or MLP hooks are. `register_sae_type` adds a
    type of your own. SAEs as they are trained (BatchTopK, Matryoshka) go through SAELens' own
    conversion for saving. See docs/method.md 4, 5 and 11.

    Args:
        source: a SAELens SAE (for inference or training), a folder that SAELens saved, or
            "release/sae_id"; "org/name/sae_id" for a hub repository that SAELens does not list. A
            `LoadedSAE` is returned as it is.
        device: where the tensors go; None leaves them where they are (files: on the CPU).

    Raises:
        SAEError: it cannot be found, read or steered with, or holds NaN or infinity; or no such
            device.
    """
    if isinstance(source, LoadedSAE):
        return source
    place = read_device(device, "device", "the tensors stay where they are")
    sae_id, cfg, state = open_source(source)
    metadata = cfg.metadata
    hook_name = metadata.hook_name or metadata.hf_hook_name
    _check_config(cfg, hook_name, sae_id)
    layer = residual_layer(hook_name, sae_id)
    _check_numbers(state, sae_id)
    encoder, raw_decoder = _encoder(cfg, state, sae_id, place)
    decoder = raw_decoder
    if "decoder_norm" in encoder.tensors:
        decoder = _unit_rows(raw_decoder, sae_id)
    return LoadedSAE(
        id=sae_id,
        sha256=_weight_hash(encoder, raw_decoder),
        encoder=encoder,
        decoder=decoder,
        layer=layer,
        model_name=metadata.model_name or None,
        hook_name=hook_name,
    )


def _check_config(cfg: SAEConfig, hook_name: str | None, sae_id: str) -> None:
    """Refuse an SAE of no residual stream; warn of a normalisation that is ignored."""
    if cfg.reshape_activations != "none" or cfg.metadata.hook_head_index is not None:
        raise SAEError(
            f"the SAE {sae_id} reads the attention heads at {hook_name!r}, not the residual "
            "stream: use an SAE of the residual stream, such as 'blocks.9.hook_resid_post'"
        )
    target = cfg.metadata.hook_name_out
    if target is not None and target != hook_name:
        raise SAEError(
            f"the SAE {sae_id} reads {hook_name!r} and writes {target!r}, as a transcoder does: "
            "use an SAE that reconstructs what it reads"
        )
    if cfg.normalize_activations in _FOLDED:
        warn(
            f"the SAE {sae_id} was trained with normalize_activations="
            f"{cfg.normalize_activations!r}, which was not folded into its weights and is ignored "
            "at run time, as SAELens does: fold it and save the SAE again if it encodes badly",
        )


def _check_numbers(state: dict[str, Tensor], sae_id: str) -> None:
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise SAEError(
                f"the SAE {sae_id} holds NaN or infinity in {name}: its training has diverged or "
                "its file is damaged, so train, convert or download it again"
            )


def _encoder(
    cfg: SAEConfig, state: dict[str, Tensor], sae_id: str, device: torch.device | None
) -> tuple[Encoder, Tensor]:
    architecture = cfg.architecture()
    decoder = state["W_dec"].to(device)
    dtype = decoder.dtype
    sae_type = sae_types()[architecture]
    rule: dict[str, Any] = {
        "architecture": architecture,
        "width": cfg.d_sae,
        "d_model": cfg.d_in,
        "dtype": str(dtype).removeprefix("torch."),
        "normalize_activations": (
            cfg.normalize_activations if cfg.normalize_activations in _PER_TOKEN else "none"
        ),
        "apply_b_dec_to_input": bool(cfg.apply_b_dec_to_input),
    }
    rule |= {name: _setting(cfg, name, sae_id) for name in sae_type.settings}
    if rule.get("k", 0) > cfg.d_sae:
        raise SAEError(
            f"the SAE {sae_id} keeps k = {rule['k']} latents but has only {cfg.d_sae}: correct k "
            "in its config"
        )
    if rule.get("k", 1) < 1:
        raise SAEError(
            f"the SAE {sae_id} keeps k = {rule['k']} latents, so that none would ever fire: "
            "correct k in its config"
        )
    names = sae_type.tensors + (("b_dec",) if rule["apply_b_dec_to_input"] else ())
    absent = [name for name in names if name not in state]
    if absent:
        raise SAEError(
            f"the SAE {sae_id} of type {architecture!r} has no weights named {', '.join(absent)}, "
            f"only {', '.join(state)}: give register_sae_type the names that its state_dict has"
        )
    tensors = {name: state[name].to(device=decoder.device, dtype=dtype) for name in names}
    if rule.get("rescale_acts_by_decoder_norm"):
        tensors["decoder_norm"] = _norms(decoder)[:, 0]
    if sae_type.tied:
        tensors["dictionary"] = decoder
    return Encoder(rule, tensors, latents_of(sae_type)), decoder


def _setting(cfg: SAEConfig, name: str, sae_id: str) -> Any:
    try:
        return getattr(cfg, name)
    except AttributeError:
        raise SAEError(
            f"the SAE {sae_id} has no config value {name!r}: give register_sae_type the names of "
            f"{type(cfg).__name__}"
        ) from None


def _unit_rows(decoder: Float[Tensor, "width d_model"], sae_id: str) -> Tensor:
    """Divide rows by their norms, in float64 and in pieces: rounded once, little memory."""
    out = torch.empty_like(decoder)
    for start in range(0, decoder.shape[0], 1024):
        rows = decoder[start : start + 1024].double()
        norms = _norms(rows)
        if not norms.all():
            raise SAEError(
                f"the SAE {sae_id} rescales by decoder norms but its latent "
                f"{start + int((norms[:, 0] == 0).nonzero()[0])} has a decoder row of norm 0: give "
                "that row any direction, or save the SAE with its norms folded"
            )
        out[start : start + 1024] = (rows / norms).to(decoder.dtype)
    return out


def _norms(rows: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows 1"]:
    return cast(Any, rows).norm(dim=-1, keepdim=True)  # torch declares no types here


def _weight_hash(encoder: Encoder, decoder: Tensor) -> str:
    # Derived tensors are left out: they may differ in the last bit between devices.
    weights = {name: t for name, t in encoder.tensors.items() if name != "decoder_norm"}
    digest = hashlib.sha256(json.dumps(rule_of(encoder), sort_keys=True).encode())
    for name, tensor in sorted((weights | {"decoder": decoder}).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
