"""graph/select.py and graph/edit.py against naive Python, on inputs full of ties."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.graph.edit import add_change, edit_latents
from dspa_nn.graph.select import prompt_weights, scores, select
from tests.examples import examples

quick = settings(max_examples=examples(60), deadline=None)
small_ints = st.integers(0, 4)


def table(values: st.SearchStrategy, rows: int = 2, width: int = 9) -> st.SearchStrategy:
    return st.lists(st.lists(values, min_size=width, max_size=width), min_size=rows, max_size=rows)


@quick
@given(table(small_ints), st.integers(1, 12))
def test_density_votes_for_the_largest_counts_ties_to_the_lower_index(
    counts: list[list[int]], k: int
) -> None:
    lengths = torch.full((2,), 5)
    result = prompt_weights(torch.tensor(counts), lengths, "density", k, None, None, "active")
    for row, numbers in zip(result, counts, strict=True):
        order = sorted((i for i, n in enumerate(numbers) if n), key=lambda i: (-numbers[i], i))[:k]
        assert row.nonzero().flatten().tolist() == sorted(order)
        assert set(row.tolist()) <= {0.0, 1.0}


@quick
@given(
    table(small_ints),
    st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.6, 1.0]), min_size=9, max_size=9),
    st.sampled_from(["active", "literal"]),
    st.integers(0, 5),
)
def test_gates_open_at_tau_and_centred_takes_their_mean_off(
    counts: list[list[int]], tau: list[float], gate: str, length: int
) -> None:
    counts = [[min(n, length) for n in numbers] for numbers in counts]
    mean = torch.linspace(0, 1, 9, dtype=torch.float64)
    given_ = (torch.tensor(counts), torch.full((2,), length))
    vectors = (torch.tensor(tau, dtype=torch.float64), mean, gate)
    gated = prompt_weights(*given_, "gated", 1, *vectors)
    centred = prompt_weights(*given_, "centred", 1, *vectors)
    for row, numbers in enumerate(counts):
        for i, n in enumerate(numbers):
            opened = length > 0 and n / length >= tau[i] and (gate == "literal" or n > 0)
            assert gated[row, i] == float(opened)
            assert centred[row, i] == (float(opened) - mean[i] if length else 0)


@quick
@given(
    table(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])),
    st.integers(1, 12),
    st.sampled_from(["ablate", "augment", "both"]),
    st.sets(st.integers(0, 8)),
)
def test_selection_is_a_sorted_list_by_score_then_index(
    s: list[list[float]], k: int, mode: str, barred: set[int]
) -> None:
    allowed = torch.tensor([j not in barred for j in range(9)])
    result = select(torch.tensor(s, dtype=torch.float64), k, mode, allowed)
    for sign, wanted_in, chosen in zip((1, -1), ("augment", "ablate"), result, strict=True):
        for row, numbers in enumerate(s):
            order = sorted(range(9), key=lambda j: (-sign * numbers[j], j))
            wanted = [j for j in order if sign * numbers[j] > 0 and j not in barred][:k]
            if mode not in (wanted_in, "both"):
                wanted = []
            assert [j for j in chosen[row].tolist() if j >= 0] == wanted


@quick
@given(st.integers(0, 2**32 - 1))
def test_scores_are_the_dense_product_in_float64(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = (rng.normal(size=(6, 5)) * (rng.random((6, 5)) < 0.5)).astype(np.float32)
    A[rng.integers(6)] = 0
    w = rng.choice([0.0, 1.0, -0.25], size=(3, 6))
    rows = np.flatnonzero(A.any(1))
    indptr = np.concatenate([[0], np.cumsum((A[rows] != 0).sum(1))])
    arrays: Any = (
        torch.tensor(numbers) for numbers in (rows, indptr, np.nonzero(A[rows])[1], A[A != 0])
    )
    rows_, indptr_, columns, values = arrays
    result = scores(torch.tensor(w), rows_, indptr_, columns, values, 5)
    wanted = np.zeros((3, 5))
    for i in range(6):  # ascending rows: equal sums to the last bit
        wanted += w[:, i : i + 1] * A[i].astype(np.float64)
    assert np.array_equal(result.numpy(), wanted)


@quick
@given(
    table(st.sampled_from([0.0, 0.5, 1.0, 3.0]), rows=3, width=4),
    st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4),
    st.sampled_from([0.0, 0.25, 2.0]),
)
def test_the_edit_is_the_formula_latent_by_latent(
    latents: list[list[float]], signs: list[int], alpha: float
) -> None:
    values = torch.tensor([latents])
    strongest = torch.full((1, 3, 1), 4.0)
    result = edit_latents(values, strongest, torch.tensor([[signs]], dtype=torch.int8), alpha)
    for position, numbers in enumerate(latents):
        for column, value in enumerate(numbers):
            wanted = value
            if value > 0 and signs[column]:
                wanted = max(value + signs[column] * alpha * 4.0, 0.0)
            assert result[0, position, column] == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_changed_stays_bit_for_bit(dtype: torch.dtype) -> None:
    hidden = torch.tensor([[[-0.0, 1e-30], [2.0, float("inf")]]], dtype=dtype)
    change = torch.ones(1, 2, 2, dtype=torch.float32)
    kept = add_change(hidden, change, torch.zeros(1, 2, dtype=torch.bool))
    assert torch.equal(kept.view(torch.uint8), hidden.view(torch.uint8))
    moved = add_change(hidden, change, torch.tensor([[True, False]]))
    assert moved.dtype == dtype
    assert moved[0].tolist() == [[1.0, 1.0], [2.0, float("inf")]]
