# pyright: basic
"""The edit of arXiv 2603.21461: planned latents that are active move by alpha * M_t."""

from typing import Any

import torch
from torch import Tensor


def edit_latents(latents: Tensor, strongest: Tensor, signs: Tensor, alpha: Any) -> Tensor:
    """Planned latents after the edit, same shape and dtype.

    latents: [rows, positions, k], values of the planned latents; strongest: [rows, positions, 1],
    M_t, the largest latent of the token; signs: [rows, 1, k], +1 to augment, -1 to ablate, 0 for
    padding; alpha: a number, or one for each row, [rows, 1, 1]. Inactive latents stay as they are;
    an ablated one never falls below 0.
    """
    # A sign times a number is exact, and so is 0 for padding, which leaves a latent as it is.
    # A tensor of alphas is no narrower than float32, as a plain number is when it is multiplied.
    moved = latents + signs * (alpha * strongest).to(latents.dtype)
    return torch.where(latents > 0, moved.clamp_(min=0), latents)


def add_change(hidden: Tensor, change: Tensor, changed: Tensor) -> Tensor:
    """The residual stream with `change` added where `changed` is True, elsewhere bit for bit.

    hidden: [rows, positions, d_model]; change: the same shape, any float dtype or device;
    changed: bool [rows, positions].
    """
    change = change.to(hidden.device)
    steered = (hidden + change).to(hidden.dtype)
    return torch.where(changed.to(hidden.device).unsqueeze(-1), steered, hidden)
