"""The edit of arXiv 2603.21461: planned latents that are active move by alpha * M_t."""

import torch


def edit_latents(latents, strongest, signs, alpha):
    """Planned latents after the edit, same shape and dtype.

    latents: [rows, positions, k], values of the planned latents; strongest: [rows, positions, 1],
    M_t, the largest latent of the token; signs: [rows, 1, k], +1 to augment, -1 to ablate, 0 for
    padding. Inactive latents stay as they are; an ablated one never falls below 0.
    """
    shift = alpha * strongest
    moved = torch.where(signs > 0, latents + shift, (latents - shift).clamp(min=0))
    return torch.where((latents > 0) & (signs != 0), moved, latents)


def add_change(hidden, change, changed):
    """The residual stream with `change` added where `changed` is True, elsewhere bit for bit.

    hidden: [rows, positions, d_model]; change: the same shape, any float dtype or device;
    changed: bool [rows, positions].
    """
    change = change.to(hidden.device)
    steered = (hidden + change).to(hidden.dtype)
    return torch.where(changed.to(hidden.device).unsqueeze(-1), steered, hidden)
