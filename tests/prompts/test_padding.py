"""Rows of different lengths: which go together."""

from dspa_nn.prompts import batches_by_length


def test_batches_hold_alike_lengths_within_the_budget() -> None:
    assert batches_by_length([3, 9, 4, 9, 30], 20) == [[4], [1, 3], [2, 0]]
    assert batches_by_length([], 20) == []
