# pyright: basic
"""From prompt counts to the latents that will be steered: docs/method.md 4 (arXiv 2603.21461).

Plain functions on tensors, one row per prompt. Ties go to the lower index everywhere: `torch.topk`
makes no such promise, a stable sort does.
"""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.settings import ALWAYS


def prompt_weights(
    counts: Tensor, lengths: Any, rule: str, k_prompt: int, tau: Any, gate_mean: Any, gate: str
) -> Tensor:
    """Weight of every prompt latent in the vote by a named rule, float64 [rows, d_in].

    counts: int [rows, d_in], counted tokens on which a latent is active; lengths: int [rows];
    rule: "density" (1 for the `k_prompt` densest active latents), "gated" (the gates of the fit)
    or "centred" (gates less their mean over the fitting prompts); gate: "active" or "literal".
    lengths, tau and gate_mean are None where the rule needs none. A row without a counted token
    votes for nothing. With gate "always" latent 0 votes for every other row, whatever the rule.
    """
    if gate == ALWAYS:
        return always(counts, lengths)
    if rule == "density":
        return densest(counts, k_prompt)
    if rule == "gated":
        return gated(counts, lengths, tau, gate)
    return centred(counts, lengths, tau, gate_mean, gate)


def always(counts: Tensor, lengths: Any) -> Tensor:
    """Weight 1 for latent 0 of every row in which a token counts, float64 [rows, d_in]."""
    counted = counts.any(-1) if lengths is None else lengths > 0
    weights = torch.zeros(counts.shape, dtype=torch.float64, device=counts.device)
    weights[..., 0] = counted.to(weights.device, torch.float64)
    return weights


def densest(counts: Tensor, k_prompt: int) -> Tensor:
    """The paper's rule: weight 1 for the `k_prompt` densest active latents, float64 [rows, d_in].

    counts: int [rows, d_in]. Tokens of one prompt are as many for each latent, so the order of
    densities is that of counts.
    """
    order = torch.sort(counts, dim=-1, descending=True, stable=True)
    k = min(k_prompt, counts.shape[-1])
    votes = (order.values[..., :k] > 0).to(torch.float64)
    weights = torch.zeros(counts.shape, dtype=torch.float64, device=counts.device)
    return weights.scatter_(-1, order.indices[..., :k], votes)


def gated(counts: Tensor, lengths: Tensor, tau: Tensor, gate: str) -> Tensor:
    """The gates that the map was fitted with, as weights: float64 [rows, d_in]."""
    opened = densities(counts, lengths) >= tau.to(counts.device)
    if gate == "active":
        opened = opened & (counts > 0)
    return (opened & (lengths > 0).unsqueeze(-1)).to(torch.float64)


def centred(counts: Tensor, lengths: Tensor, tau: Tensor, gate_mean: Tensor, gate: str) -> Tensor:
    """Gates less their mean over the fitting prompts: float64 [rows, d_in]."""
    weights = gated(counts, lengths, tau, gate)
    counted = (lengths > 0).unsqueeze(-1)
    return torch.where(counted, weights - gate_mean.to(weights.device), weights)


def densities(counts: Tensor, lengths: Tensor) -> Tensor:
    """The fraction of counted tokens on which each latent is active, float64 [rows, d_in]."""
    return counts.to(torch.float64) / lengths.clamp(min=1).unsqueeze(-1).to(torch.float64)


def scores(
    weights: Tensor, rows: Tensor, indptr: Tensor, columns: Tensor, values: Tensor, d_out: int
) -> Tensor:
    """Scores s = A^T w, float64 [rows, d_out], from the map's stored float32 entries.

    The map is given as compressed rows: `rows` [r] are the input latents that have entries,
    entry i of row r lies in indptr[r]:indptr[r + 1]. Summed in ascending order of the rows, so
    that equal columns get equal scores.
    """
    weights = weights.to(values.device)[:, rows]
    total = weights.new_zeros((len(weights), d_out))
    voting = torch.nonzero((weights != 0).any(0)).squeeze(-1)
    if not voting.numel():
        return total
    start, length = indptr[:-1], indptr.diff()
    if 2 * int(length[voting].sum()) < len(values):
        # The entries of the voting rows, flat: each row's start, plus a running offset.
        start, length, weights = start[voting], length[voting], weights[:, voting]
        owner = torch.repeat_interleave(length)
        entry = torch.arange(len(owner), device=owner.device)
        entry += (start - length.cumsum(0) + length)[owner]
        columns, values = columns[entry], values[entry]
    else:
        # Most of the map: to add 0 for the other rows is quicker than to pick entries.
        owner = torch.repeat_interleave(length, output_size=len(values))
    columns, values = columns.long(), values.to(torch.float64)
    for row in range(len(weights)):
        total[row].index_add_(0, columns, values * weights[row].index_select(0, owner))
    return total


def select(scores: Tensor, k_diff: int, mode: str, allowed: Any) -> tuple[Tensor, Tensor]:
    """Latents to augment and to ablate, two int64 [rows, k] padded with -1.

    The `k_diff` highest scores that are above 0 are augmented, the `k_diff` lowest below 0 ablated;
    allowed: bool [d_out], or None where every latent may be chosen.
    """
    return (
        _best(scores, k_diff if mode in ("augment", "both") else 0, allowed),
        _best(-scores, k_diff if mode in ("ablate", "both") else 0, allowed),
    )


def padded(latents: list) -> Tensor:
    """Latents of each row, int64 [k] with -1 among them, as int64 [rows, k] padded with -1."""
    chosen = [row[row >= 0].to(latents[0].device) for row in latents]
    return torch.nn.utils.rnn.pad_sequence(chosen, True, -1)


def with_signs(augment: Tensor, ablate: Tensor):
    """All planned latents, int64 [rows, k], and their signs, int8: 1, -1, or 0 for padding."""
    both = torch.cat([augment, ablate], -1)
    signs = torch.ones_like(both, dtype=torch.int8)
    signs[:, augment.shape[1] :] = -1
    signs[both < 0] = 0
    return both, signs


def _best(score: Tensor, k: int, allowed) -> Tensor:
    if allowed is not None:
        score = score.masked_fill(~allowed.to(score.device), 0.0)
    order = torch.sort(score, dim=-1, descending=True, stable=True)
    k = min(k, score.shape[-1])
    chosen = torch.where(order.values[..., :k] > 0, order.indices[..., :k], -1)
    # As wide as the fullest row and no wider: every later step pays for each column.
    used = int((chosen >= 0).sum(-1).max()) if chosen.numel() else 0
    return chosen[..., :used]
