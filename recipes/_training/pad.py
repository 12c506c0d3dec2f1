"""Rows of ids as one batch, on either side, with marks of the response."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .texts import Ids


def batch(rows: Sequence[Ids], pad: int, side: str) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `response` (bool), each [rows, tokens]."""
    width = max(len(row.prompt) + len(row.response) for row in rows)
    ids, mask, response = [], [], []
    for row in rows:
        gap = [0] * (width - len(row.prompt) - len(row.response))
        whole = [*row.prompt, *row.response]
        marked = [*[0] * len(row.prompt), *[1] * len(row.response)]
        real = [1] * len(whole)
        fill = [pad] * len(gap)
        left = side == "left"
        ids.append([*fill, *whole] if left else [*whole, *fill])
        mask.append([*gap, *real] if left else [*real, *gap])
        response.append([*gap, *marked] if left else [*marked, *gap])
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "response": torch.tensor(response, dtype=torch.bool),
    }


def token_log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log p of every token from the second on: [rows, tokens - 1]."""
    picked = logits[:, :-1].gather(-1, ids[:, 1:].unsqueeze(-1))[..., 0]
    return picked.float() - torch.logsumexp(logits[:, :-1].float(), -1)
