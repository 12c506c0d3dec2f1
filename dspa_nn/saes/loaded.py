"""A SAELens SAE, reduced to the tensors and the rule that steering needs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.errors import SAEError
from dspa_nn.graph.encode import Encoder


@dataclass(repr=False)
class LoadedSAE:
    """An SAE as plain tensors.

    Example:
        >>> from dspa_nn.saes import load_sae
        >>> sae = load_sae(folder)
        >>> hidden = torch.randn(2, 7, sae.d_model)
        >>> latents, scale = sae.encoder.encode(hidden)
        >>> edited = latents * (latents != latents.amax(-1, keepdim=True))  # the strongest is off
        >>> change = (edited - latents) @ sae.decoder  # decode(edited) - decode(latents)
        >>> steered = hidden + (change if scale is None else change * scale)

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
        """The dtype of its weights, in which it encodes."""
        return self.encoder.dtype

    def __repr__(self) -> str:
        rule = rule_of(self.encoder)
        return (
            f"LoadedSAE({self.id}: {rule['architecture']}, {self.width} latents of "
            f"{self.d_model}, {rule['dtype']}, layer {self.layer}, sha256 {self.sha256[:12]})"
        )


def cast(sae: LoadedSAE, dtype: str) -> LoadedSAE:
    """Return the SAE with its floating tensors, and its arithmetic, in another dtype.

    Example:
        >>> from dspa_nn.saes import load_sae
        >>> cast(load_sae(folder), "bfloat16").dtype
        torch.bfloat16

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
    encoder = Encoder(
        {**rule_of(sae.encoder), "dtype": dtype}, tensors, vars(sae.encoder)["latents"]
    )
    return replace(sae, encoder=encoder, decoder=sae.decoder.to(kind))


def rule_of(encoder: Encoder) -> dict[str, Any]:
    """The rule of an encoder, with a type: `graph/` travels without any."""
    return vars(encoder)["rule"]
