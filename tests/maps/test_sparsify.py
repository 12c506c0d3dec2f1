from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.maps import Sparsification, sparsify_map
from dspa_nn.maps.sparsify import among_extremes, lowered
from tests.count_zoo import naive_extremes, naive_sparsify, seeds
from tests.examples import examples

quick = settings(max_examples=examples(40), deadline=None)


def blocks_of(A: np.ndarray, step: int = 3, order: Any = None) -> list[tuple]:
    rows = np.arange(len(A)) if order is None else order
    return [(some := rows[at : at + step], A[some]) for at in range(0, len(A), step)]


def dense_of(sparse: tuple, shape: tuple[int, int]) -> np.ndarray:
    rows, indptr, columns, values, _ = sparse
    dense = np.zeros(shape, dtype=np.float32)
    dense[np.repeat(rows, np.diff(indptr)), columns] = values
    return dense


def few_values(seed: int, shape: tuple[int, int], empty: float) -> np.ndarray:
    """A map of few distinct values, with empty rows: everything ties."""
    rng = np.random.default_rng(seed)
    A = rng.integers(-3, 4, shape) / 8 * (rng.random(shape) < 0.6)
    return (A * (rng.random((shape[0], 1)) > empty)).astype(np.float32)


@quick
@given(seeds, st.integers(1, 9), st.integers(1, 12))
def test_extremes_are_those_of_a_sort(seed: int, width: int, k: int) -> None:
    A = few_values(seed, (6, width), 0.2)
    marks = among_extremes(A, k)
    assert [set(np.flatnonzero(mark)) for mark in marks] == [naive_extremes(row, k) for row in A]


@quick
@given(
    seeds, st.integers(1, 9), st.integers(1, 12), st.integers(1, 5),
    st.sampled_from(["paper", "rows", "none"]),
)  # fmt: skip
def test_sparsification_is_the_naive_one(
    seed: int, width: int, step: int, k: int, rule: Sparsification
) -> None:
    A = few_values(seed, (7, width), 0.3)
    sparse = sparsify_map(blocks_of(A, step), rule, k)
    expected, t = naive_sparsify(A, rule, k)
    np.testing.assert_array_equal(dense_of(sparse, A.shape), expected)
    assert sparse.threshold == t
    assert (sparse.values != 0).all()
    assert (np.diff(sparse.indptr) > 0).all()


@quick
@given(seeds, st.integers(1, 40), st.sampled_from(["paper", "rows", "none"]))
def test_the_budget_keeps_all_above_the_smallest_t_that_fits(
    seed: int, budget: int, rule: Sparsification
) -> None:
    A = few_values(seed, (7, 9), 0.1)
    sparse = sparsify_map(blocks_of(A), rule, 2, budget)
    before, t = naive_sparsify(A, rule, 2)
    sizes = np.abs(before[before != 0])
    if len(sizes) > budget:
        fits = [s for s in np.unique(sizes) if (sizes >= s).sum() <= budget]
        t = min(fits, default=np.inf)
        assert len(fits) == 0 or sparse.threshold == t
        assert sparse.threshold > np.sort(sizes)[-budget - 1]
    expected = np.where(np.abs(before) >= t, before, 0)
    np.testing.assert_array_equal(dense_of(sparse, A.shape), expected)
    assert len(sparse.values) <= budget


def test_pruning_on_the_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    A = rng.normal(size=(400, 30)).round(2).astype(np.float32)
    at_once = sparsify_map(blocks_of(A, 400), "none", 2, 50)
    monkeypatch.setattr("dspa_nn.maps.sparsify._SLACK", 10)
    piecewise = sparsify_map(blocks_of(A, 7), "none", 2, 50)
    assert at_once.threshold == piecewise.threshold
    for one, other in zip(at_once[:4], piecewise[:4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_zeros_among_the_extremes_do_not_make_t_zero() -> None:
    # Two positives and one negative: 0 is among the 2 smallest and is left out of the minimum.
    A = np.array([[0.5, 0.25, 0, 0, 0, -0.125], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
    assert lowered(np.inf, A, 2) == lowered(np.inf, A, 1) == 0.125
    assert lowered(np.inf, A[1:], 1) == np.inf
    assert sparsify_map(blocks_of(A[1:]), "paper", 1).threshold == 0


def test_one_row_sets_t_for_all() -> None:
    A = np.array([[0.5, 0.4, 0.3, 0.2, 0.1], [0.01, 0.02, -0.25, 0.02, 0.02]], dtype=np.float32)
    assert lowered(np.inf, A, 1) == float(np.float32(0.02))
    sparse = sparsify_map(blocks_of(A), "paper", 1)
    assert len(sparse.values) == 9  # 0.01 alone goes


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.one_of(st.none(), st.integers(1, 30)))
def test_rows_may_come_in_any_order(seed: int, step: int, k: int, budget: int | None) -> None:
    # The paper's t is reached late or early; what came before it was reached is had again.
    A = few_values(seed, (9, 8), 0.1) * np.linspace(0.5, 1.5, 9, dtype=np.float32)[:, None]
    found = []
    for order in (None, np.arange(9)[::-1], np.random.default_rng(seed).permutation(9)):
        sparse = sparsify_map(blocks_of(A, step, order), "paper", k, budget)
        found.append((dense_of(sparse, A.shape).tolist(), sparse.threshold, sparse.rows.tolist()))
    assert found[0] == found[1] == found[2]


def test_what_the_last_rows_lower_t_to_is_kept_of_the_first() -> None:
    A = np.array([[0.5, 0.25, -0.5, 0], [0.125, 0, -0.5, 0]], dtype=np.float32)
    sparse = sparsify_map(blocks_of(A, 1), "paper", 1)
    assert sparse.threshold == 0.125
    assert dense_of(sparse, A.shape).tolist() == A.tolist()
