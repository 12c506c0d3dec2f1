"""Rows of ids as one batch, padded on the side that a run needs."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def batches_by_length(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of sequences in batches of alike length, the longest first.

    Example:
        >>> batches_by_length([3, 9, 4, 9, 30], token_budget=20)
        [[4], [1, 3], [2, 0]]

    Args:
        lengths: tokens of each sequence.
        token_budget: padded tokens that a batch may hold; a longer sequence has one to itself.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


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
