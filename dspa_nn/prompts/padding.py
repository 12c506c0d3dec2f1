"""Rows of ids as one batch, padded on the side that a run needs."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def padded(
    rows: Sequence[Int64[Tensor, " _"]], side: Literal["left", "right"], pad: int = 0
) -> dict[str, Int64[Tensor, "rows tokens"]]:
    """The `input_ids` and `attention_mask` of rows of different lengths.

    Example:
        >>> padded([torch.tensor([5, 6]), torch.tensor([7])], "left")["input_ids"]
        tensor([[5, 6],
                [0, 7]])
    """
    return {
        "input_ids": pad_sequence(list(rows), True, pad, side),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], True, 0, side),
    }
