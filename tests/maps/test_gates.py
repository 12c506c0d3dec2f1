from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from dspa_nn.errors import MapError
from dspa_nn.maps import gates as fitting
from dspa_nn.maps import sums as difference_map
from dspa_nn.maps.sparsify import among_extremes, lowered, sparsify_map
from dspa_nn.maps.sums import DifferenceMap
from tests.count_zoo import naive_extremes, naive_sparsify, seeds

quick = settings(max_examples=40, deadline=None)


def blocks_of(A: np.ndarray, step: int = 3, order: Any = None) -> list[tuple]:
    rows = np.arange(len(A)) if order is None else order
    return [(own := rows[at : at + step], A[own]) for at in range(0, len(A), step)]


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


def test_equal_ratios_are_equal_doubles() -> None:
    rho = fitting.densities(csr_array([[1, 2], [3, 6]]), np.array([3, 9])).toarray()
    assert rho[0, 0] == rho[1, 0]
    assert rho[0, 1] == rho[1, 1]


def test_differences_store_no_zero() -> None:
    table = fitting.differences(
        csr_array([[1, 2]]), np.array([3]), csr_array([[2, 1]]), np.array([6])
    )
    assert table.nnz == 1
    np.testing.assert_allclose(table.toarray(), [[0, 0.5]], rtol=1e-15)


@quick
@given(seeds, st.integers(1, 30), st.sampled_from([0, 10, 50, 90, 95, 99.9, 100]))
def test_thresholds_are_numpys_percentile_with_zeros(seed: int, n: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    rho = rng.integers(0, 6, (n, 5)) / 5 * (rng.random((n, 5)) < 0.5)
    tau, cut = fitting.thresholds(csr_array(rho), p)
    np.testing.assert_allclose(tau, np.percentile(rho, p, axis=0), atol=1e-15)
    # The two statements of the gate in docs/method.md 3.3 agree on the fitting prompts.
    np.testing.assert_array_equal(rho >= tau, rho >= cut)


def test_thresholds_are_numpys_to_the_last_bit() -> None:
    # A new prompt of density 2 / 3 ties with tau halfway between 1 / 3 and 1: one unit in the last
    # place, as 1 / 3 + (1 - 1 / 3) / 2 is too high by, would close its gate.
    sizes = sorted({a / b for b in range(1, 10) for a in range(1, b + 1)})
    pairs = np.array([(low, high) for low in sizes for high in sizes if low <= high]).T
    tau, _ = fitting.thresholds(csr_array(pairs), 50)
    np.testing.assert_array_equal(tau, np.percentile(pairs, 50, axis=0))
    assert fitting.thresholds(csr_array([[1 / 3], [1.0]]), 50)[0] == 2 / 3


def test_gates_are_the_same_however_few_entries_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    rho = csr_array(rng.random((9, 6)) * (rng.random((9, 6)) < 0.4))

    def found() -> list[list]:
        tau, cut = fitting.thresholds(rho, 60)
        gates, always = fitting.open_gates(rho, cut, "literal")
        return [array.tolist() for array in (tau, cut, gates.toarray(), always)]

    at_once = found()
    for entries in (1, 5):
        monkeypatch.setattr(fitting, "_PIECE", entries)
        assert found() == at_once


def test_a_latent_that_seldom_fires() -> None:
    rho = csr_array([[0.5, 0.1], [0.0, 0.2], [0.0, 0.3], [0.0, 0.4]])
    tau, cut = fitting.thresholds(rho, 50)
    np.testing.assert_allclose(tau, [0, 0.25])
    gates, always = fitting.open_gates(rho, cut, "active")
    assert gates.toarray().tolist() == [[1, 0], [0, 0], [0, 1], [0, 1]]
    assert not always.any()
    assert fitting.gate_mean(gates, always).tolist() == [0.25, 0.5]
    gates, always = fitting.open_gates(rho, cut, "literal")
    assert always.tolist() == [True, False]
    assert fitting.gate_mean(gates, always).tolist() == [1, 0.5]


def test_blocks_of_any_size_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rho = csr_array(rng.random((9, 6)) * (rng.random((9, 6)) < 0.3))
    drho = csr_array(rng.normal(size=(9, 5)) * (rng.random((9, 5)) < 0.7))
    _, cut = fitting.thresholds(rho, 70)
    gates, always = fitting.open_gates(rho, cut, "literal")
    assert 0 < always.sum() < 6
    dense = np.where(always, 1, gates.toarray())
    maps = []
    changed = (drho.toarray() != 0).sum(0)
    assert changed.min() < 9 / 1.6 < changed.max()
    names = ("_BLOCK_ENTRIES", "_PIECE", "_TRIPLES", "_ROWS", "_COLUMNS", "_OFTEN", "_HELD_BYTES")
    # Columns all looked up, some, and none; differences held, and made for each block.
    for sizes in (
        (1, 1, 1, 1, 1, 0, 0),
        (7, 4, 2, 4, 3, 1.6, 10_000),
        (10_000, 5, 4, 5, 2, 1.6, 0),
        (10_000, 9, 9, 9, 9, 10, 10_000),
    ):
        for name, size in zip(names, sizes, strict=True):
            monkeypatch.setattr(difference_map, name, size)
        blocks = DifferenceMap(gates, always, lambda a, b: drho[a:b], 5)
        found = [blocks[at] for at in range(len(blocks))]
        numbers = np.concatenate([rows for rows, _ in found])
        assert sorted(numbers) == list(range(6))
        assert (np.diff(dense.sum(0)[numbers]) >= 0).all()  # fewest open gates first
        whole = np.concatenate([block for _, block in found])
        maps.append(whole[np.argsort(numbers)])
        assert (maps[0] == maps[-1]).all()
    summed = np.zeros((6, 5))
    for k in range(9):  # add by add, in the order of the triples
        summed += np.outer(dense[k], drho[[k]].toarray())
    assert (maps[0] == (summed / 9).astype(np.float32)).all()


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
    seed: int, width: int, step: int, k: int, rule: str
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
    seed: int, budget: int, rule: str
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"percentile": 101}, r"percentile is 101; expected a number from 0 to 100\."),
        ({"percentile": float("nan")}, r"percentile is nan; expected a number from 0 to 100\."),
        ({"percentile": -0.5}, r"percentile is -0\.5; expected a number from 0 to 100\."),
        ({"k_diff": 0}, r"k_diff is 0; expected a whole number of at least 1\."),
        ({"max_entries": -3}, r"max_entries is -3; expected a whole number of at least 1\."),
        ({"gate": "open"}, r"gate is 'open'; expected one of 'active', 'literal'\."),
        ({"sparsify": "top"}, r"sparsify is 'top'; expected one of 'paper', 'rows', 'none'\."),
        ({"tokens": "none"}, r"prompt_tokens is 'none'; expected one of 'content', 'all'\."),
    ],
)
def test_options_out_of_range(options: dict, sentence: str) -> None:
    sound = {
        "percentile": 90, "k_diff": 16, "gate": "active", "sparsify": "paper",
        "max_entries": None, "tokens": "content",
    }  # fmt: skip
    fitting.check_options(**sound)
    with pytest.raises(MapError, match=f"^{sentence}$"):
        fitting.check_options(**(sound | options))
