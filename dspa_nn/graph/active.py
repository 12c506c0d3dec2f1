# pyright: basic
"""Which latents are active on which tokens, encoded a block of tokens at a time.

A wide SAE over a long prompt would need an array of tokens x latents that no device holds, so no
array here is larger than `BLOCK` latents.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.refusals import SteeringRefusal, refuse

# Latents encoded at a time: 64 MiB in float32, of which an encoder holds a few at once.
BLOCK = 1 << 24
NOT_FINITE = (
    "the residual stream{} holds NaN or infinity; load the model in a wider dtype "
    "(bfloat16 or float32)"
)


def read_counts(encoder, hidden: Tensor, counted: Tensor) -> Tensor:
    """Counted tokens of each prompt on which a latent is active: int32 [rows, width].

    hidden: [rows, tokens, d_model] at the input layer; counted: bool [rows, tokens].
    """
    check_finite(hidden, counted, "input")
    with torch.no_grad():
        row = torch.arange(len(hidden), device=counted.device).unsqueeze(-1)
        return count_active(encoder, hidden, torch.where(counted, row, -1), len(hidden))


def finite(hidden: Tensor, where: Tensor) -> bool:
    """Whether hidden states [rows, tokens, d_model] are finite where bool [rows, tokens] says.

    No comparison with NaN is true, so such a token would otherwise pass as one without any active
    latent.
    """
    return bool(torch.isfinite(hidden[where.to(hidden.device)]).all())


def check_finite(hidden: Tensor, where: Tensor, layer: str) -> None:
    """Refuse to steer by NaN or infinity; layer: "input" or "output"."""
    if not finite(hidden, where):
        raise refuse(SteeringRefusal, NOT_FINITE.format(f" at the {layer} layer"))


def count_active(encoder: Any, hidden: Tensor, target: Tensor, size: int) -> Tensor:
    """Tokens on which each latent is active: int32 [size, width].

    hidden: [rows, tokens, d_model]; target: int64 [rows, tokens], the row of the result that a
    token is counted in, or -1.
    """
    target = target.to(hidden.device)
    counted = target >= 0
    tokens, target = hidden[counted], target[counted].to(encoder.device)
    total = torch.zeros((size, encoder.width), dtype=torch.int32, device=encoder.device)
    for block, latents, _ in encoded(encoder, tokens):
        total.index_add_(0, target[block], (latents > 0).to(torch.int32))
    return total


def encoded(encoder: Any, tokens: Tensor) -> Iterator[tuple[slice, Tensor, Any]]:
    """A block of tokens after the other: which, their latents, and the scale of a decoded change.

    tokens: [tokens, d_model].
    """
    size = max(1, BLOCK // encoder.width)
    for first in range(0, len(tokens), size):
        block = slice(first, first + size)
        latents, scale = encoder.encode(tokens[block])
        yield block, latents, scale


def active_pairs(encoder: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Which latents are active on which tokens: two int64 [pairs], tokens ascending.

    tokens: [tokens, d_model].
    """
    pairs = [torch.zeros((0, 2), dtype=torch.int64, device=encoder.device)]
    with torch.no_grad():
        for block, latents, _ in encoded(encoder, tokens):
            active = torch.nonzero(latents > 0)
            active[:, 0] += block.start
            pairs.append(active)
    token, latent = torch.cat(pairs).unbind(-1)
    return token, latent


def planned_latents(encoder, hidden: Tensor, planned: Tensor):
    """Planned latents, each token's strongest latent M_t, and the scale of a decoded change.

    hidden: [rows, positions, d_model]; planned: int64 [rows, k]. Returns [rows, positions, k],
    [rows, positions, 1] and [rows, positions, 1] or None.
    """
    shape = hidden.shape[:2]
    tokens = hidden.reshape(-1, hidden.shape[-1])
    index = planned if shape[1] == 1 else planned.repeat_interleave(shape[1], 0)
    pieces = []
    for block, latents, scale in encoded(encoder, tokens):
        chosen = latents.gather(-1, index[block])
        pieces.append((chosen, latents.amax(-1, keepdim=True), scale))
    chosen, strongest, scale = (
        pieces[0] if len(pieces) == 1 else map(joined, zip(*pieces, strict=True))
    )
    scale = None if scale is None else scale.reshape(*shape, 1)
    return chosen.reshape(*shape, planned.shape[1]), strongest.reshape(*shape, 1), scale


def joined(parts) -> Any:
    """Parts as one tensor, or None where they are None."""
    return None if parts[0] is None else torch.cat(parts)
