"""A SAELens SAE, reduced to the tensors and the rule that steering needs."""

import hashlib
import json
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.errors import DSPAWarning, SAEError
from dspa_nn.graph.encode import Encoder
from dspa_nn.saes.compatibility import residual_layer, same_model
from dspa_nn.saes.sources import open_source

_TENSORS = {
    "standard": ("W_enc", "b_enc"),
    "jumprelu": ("W_enc", "b_enc", "threshold"),
    "gated": ("W_enc", "b_gate", "r_mag", "b_mag"),
    "topk": ("W_enc", "b_enc"),
    "abstopk": ("W_enc", "b_enc"),
    "matching_pursuit": (),
}
# Config values beyond the common ones that an encode depends on.
_SETTINGS = {
    "topk": ("k", "rescale_acts_by_decoder_norm"),
    "abstopk": ("k", "rescale_acts_by_decoder_norm"),
    "matching_pursuit": ("residual_threshold", "max_iterations", "stop_on_duplicate_support"),
}
_PER_TOKEN = ("constant_norm_rescale", "layer_norm")
# These scale the training data; SAELens folds them into the weights and ignores them at run time.
_FOLDED = ("expected_average_only_in", "covariance_whitening")


@dataclass(repr=False)
class LoadedSAE:
    """An SAE as plain tensors.

    Example:
        >>> sae = load_sae("folder/of/an/sae")
        >>> latents, scale = sae.encoder.encode(hidden)
        >>> change = (edited - latents) @ sae.decoder  # decode(edited) - decode(latents)
        >>> change = change if scale is None else change * scale

    Attributes:
        id: "release/sae_id", the folder's name, or class@hook: what provenance shows.
        sha256: over weights and rule (dtype included), whatever file they came from.
        encoder: the inference-time encode; its tensors may share memory with the source object.
        decoder: effective decoder, with any rescaling by its norms already in it.
        layer: 0-based decoder block whose output it reads; None if the metadata is silent.
        model_name: the model it was trained on, or None.
        hook_name: the hook it reads, or None.
    """

    id: str
    sha256: str
    encoder: Encoder
    decoder: Float[Tensor, "width d_model"]
    layer: int | None
    model_name: str | None
    hook_name: str | None

    @property
    def width(self) -> int:
        """Number of latents."""
        return self.encoder.width

    @property
    def d_model(self) -> int:
        """Width of the residual stream that it reads."""
        return self.encoder.d_model

    @property
    def dtype(self) -> torch.dtype:
        """The SAE's own dtype, in which it encodes."""
        return self.encoder.dtype

    def __repr__(self) -> str:
        rule = self.encoder.rule
        return (
            f"LoadedSAE({self.id}: {rule['architecture']}, {self.width} latents of "
            f"{self.d_model}, {rule['dtype']}, layer {self.layer}, sha256 {self.sha256[:12]})"
        )


def cast(sae: LoadedSAE, dtype: str) -> LoadedSAE:
    """Return the SAE with its floating tensors, and its arithmetic, in another dtype.

    Raises:
        SAEError: not the name of a floating dtype.
    """
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise SAEError(f"dtype {dtype!r} came, where a float was expected: try 'bfloat16'")
    tensors = {
        name: tensor.to(kind) if tensor.is_floating_point() else tensor
        for name, tensor in sae.encoder.tensors.items()
    }
    encoder = Encoder({**sae.encoder.rule, "dtype": dtype}, tensors)
    return replace(sae, encoder=encoder, decoder=sae.decoder.to(kind))


def load_sae(source: Any, *, device: torch.device | str | None = None) -> LoadedSAE:
    """Load a residual-stream SAE and reduce it to plain tensors and a rule.

    Example:
        >>> load_sae("gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical")

    Every type that SAELens knows is handled as SAELens runs it at inference, or refused by name:
    temporal SAEs, transcoders, and SAEs of attention or MLP hooks are. Training objects (BatchTopK,
    Matryoshka) go through SAELens' own conversion for saving. See docs/method.md 4, 5 and 11.

    Args:
        source: a SAELens SAE (for inference or training), a folder that SAELens saved, or
            "release/sae_id"; "org/name/sae_id" for a hub repository that SAELens does not list. A
            `LoadedSAE` is returned as it is.
        device: where the tensors go; None leaves them where they are (files: on the CPU).

    Raises:
        SAEError: it cannot be found, read or steered with, or holds NaN or infinity.
    """
    if isinstance(source, LoadedSAE):
        return source
    sae_id, cfg, state = open_source(source)
    metadata = cfg.metadata
    hook_name = metadata.hook_name or metadata.hf_hook_name
    _check_hook(cfg, hook_name, sae_id)
    layer = residual_layer(hook_name, sae_id)
    _check_numbers(state, sae_id)
    encoder, raw_decoder = _encoder(cfg, state, sae_id, device)
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


def _check_hook(cfg: Any, hook_name: str | None, sae_id: str) -> None:
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
        warnings.warn(
            f"the SAE {sae_id} was trained with normalize_activations="
            f"{cfg.normalize_activations!r}, which was not folded into its weights and is ignored "
            "at run time, as SAELens does: fold it and save the SAE again if it encodes badly",
            DSPAWarning,
            stacklevel=3,  # the caller of load_sae
        )


def _check_numbers(state: dict[str, Tensor], sae_id: str) -> None:
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise SAEError(
                f"the SAE {sae_id} holds NaN or infinity in {name}: its training has diverged or "
                "its file is damaged, so train, convert or download it again"
            )


def _encoder(
    cfg: Any, state: dict[str, Tensor], sae_id: str, device: torch.device | str | None
) -> tuple[Encoder, Tensor]:
    architecture = cfg.architecture()
    decoder = state["W_dec"].to(device)
    dtype = decoder.dtype
    rule = {
        "architecture": architecture,
        "width": cfg.d_sae,
        "d_model": cfg.d_in,
        "dtype": str(dtype).removeprefix("torch."),
        "normalize_activations": (
            cfg.normalize_activations if cfg.normalize_activations in _PER_TOKEN else "none"
        ),
        "apply_b_dec_to_input": bool(cfg.apply_b_dec_to_input),
    }
    rule |= {name: getattr(cfg, name) for name in _SETTINGS.get(architecture, ())}
    if rule.get("k", 0) > cfg.d_sae:
        raise SAEError(
            f"the SAE {sae_id} keeps k = {rule['k']} latents but has only {cfg.d_sae}: correct k "
            "in its config"
        )
    names = _TENSORS[architecture] + (("b_dec",) if rule["apply_b_dec_to_input"] else ())
    tensors = {name: state[name].to(device=decoder.device, dtype=dtype) for name in names}
    if rule.get("rescale_acts_by_decoder_norm"):
        tensors["decoder_norm"] = decoder.norm(dim=-1)
    if architecture == "matching_pursuit":
        tensors["dictionary"] = decoder
    return Encoder(rule, tensors), decoder


def _unit_rows(decoder: Float[Tensor, "width d_model"], sae_id: str) -> Tensor:
    """Divide rows by their norms, in float64 and in pieces: rounded once, little memory."""
    out = torch.empty_like(decoder)
    for start in range(0, decoder.shape[0], 1024):
        rows = decoder[start : start + 1024].double()
        norms = rows.norm(dim=-1, keepdim=True)
        if not norms.all():
            raise SAEError(
                f"the SAE {sae_id} rescales by decoder norms but its latent "
                f"{start + int((norms[:, 0] == 0).nonzero()[0])} has a decoder row of norm 0: give "
                "that row any direction, or save the SAE with its norms folded"
            )
        out[start : start + 1024] = (rows / norms).to(decoder.dtype)
    return out


def _weight_hash(encoder: Encoder, decoder: Tensor) -> str:
    # Derived tensors are left out: they may differ in the last bit between devices.
    weights = {name: t for name, t in encoder.tensors.items() if name != "decoder_norm"}
    digest = hashlib.sha256(json.dumps(encoder.rule, sort_keys=True).encode())
    for name, tensor in sorted((weights | {"decoder": decoder}).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_sae(
    sae: LoadedSAE,
    *,
    layer: int | None,
    n_layers: int,
    d_model: int,
    model_name: str | None,
    role: str,
) -> None:
    """Refuse an SAE whose metadata contradicts the model or the layer asked for.

    Example:
        >>> check_sae(sae, layer=9, n_layers=30, d_model=576, model_name="gpt2", role="input")

    Metadata that is absent is accepted (docs/method.md 5). Model names are compared without
    organisation and case, and a base model's SAE may be used with its instruct version.

    Args:
        layer: the decoder block asked for, 0-based; None takes the SAE's own.
        role: "input" or "output", for the message.

    Raises:
        SAEError: wrong width, layer or model; the sentence names both sides.
    """
    name = f"the {role} SAE {sae.id}"
    if sae.d_model != d_model:
        raise SAEError(
            f"{name} reads vectors of width {sae.d_model}, but the model's residual stream has "
            f"width {d_model}: use an SAE of this model"
        )
    if layer is None and sae.layer is None:
        raise SAEError(f"{name} does not say which layer it reads: pass {role}_layer=")
    asked = sae.layer if layer is None else layer
    if asked is None or not 0 <= asked < n_layers:
        raise SAEError(
            f"{name} is to read layer {asked}, but the model's layers are 0 to {n_layers - 1}: "
            f"pass an {role}_layer of this model"
        )
    if sae.layer is not None and sae.layer != asked:
        raise SAEError(
            f"{name} reads the output of layer {sae.layer} (hook {sae.hook_name}), but layer "
            f"{asked} was asked for: pass {role}_layer={sae.layer}, or another SAE"
        )
    if sae.model_name and model_name and not same_model(sae.model_name, model_name):
        raise SAEError(
            f"{name} was trained on {sae.model_name!r}, but the model is {model_name!r}: use an "
            "SAE of this model"
        )
