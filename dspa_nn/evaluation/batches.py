"""Sequences of alike length in batches."""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of sequences in batches of alike length, the longest first.

    Example:
        >>> plan_batches([3, 9, 4, 9, 30], token_budget=20)
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
