from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from dspa_nn.maps import gates
from tests.count_zoo import seeds
from tests.examples import examples

csr_array: Any = sparse.csr_array  # scipy declares no types

quick = settings(max_examples=examples(40), deadline=None)


def test_equal_ratios_are_equal_doubles() -> None:
    rho = gates.densities(csr_array([[1, 2], [3, 6]]), np.array([3, 9])).toarray()
    assert rho[0, 0] == rho[1, 0]
    assert rho[0, 1] == rho[1, 1]


def test_differences_store_no_zero() -> None:
    table = gates.differences(
        csr_array([[1, 2]]), np.array([3]), csr_array([[2, 1]]), np.array([6])
    )
    assert table.nnz == 1
    np.testing.assert_allclose(table.toarray(), [[0, 0.5]], rtol=1e-15)


@quick
@given(seeds, st.integers(1, 30), st.sampled_from([0, 10, 50, 90, 95, 99.9, 100]))
def test_thresholds_are_numpys_percentile_with_zeros(seed: int, n: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    rho = rng.integers(0, 6, (n, 5)) / 5 * (rng.random((n, 5)) < 0.5)
    tau, cut = gates.thresholds(csr_array(rho), p)
    np.testing.assert_allclose(tau, np.percentile(rho, p, axis=0), atol=1e-15)
    # The two statements of the gate in docs/method.md 3.3 agree on the fitting prompts.
    np.testing.assert_array_equal(rho >= tau, rho >= cut)


def test_thresholds_are_numpys_to_the_last_bit() -> None:
    # A new prompt of density 2 / 3 ties with tau halfway between 1 / 3 and 1: one unit in the last
    # place, as 1 / 3 + (1 - 1 / 3) / 2 is too high by, would close its gate.
    sizes = sorted({a / b for b in range(1, 10) for a in range(1, b + 1)})
    pairs = np.array([(low, high) for low in sizes for high in sizes if low <= high]).T
    tau, _ = gates.thresholds(csr_array(pairs), 50)
    np.testing.assert_array_equal(tau, np.percentile(pairs, 50, axis=0))
    assert gates.thresholds(csr_array([[1 / 3], [1.0]]), 50)[0] == 2 / 3


def test_gates_are_the_same_however_few_entries_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    rho = csr_array(rng.random((9, 6)) * (rng.random((9, 6)) < 0.4))

    def found() -> list[list]:
        tau, cut = gates.thresholds(rho, 60)
        opened, always = gates.open_gates(rho, cut, "literal")
        return [array.tolist() for array in (tau, cut, opened.toarray(), always)]

    at_once = found()
    for entries in (1, 5):
        monkeypatch.setattr(gates, "_PIECE", entries)
        assert found() == at_once


def test_a_latent_that_seldom_fires() -> None:
    rho = csr_array([[0.5, 0.1], [0.0, 0.2], [0.0, 0.3], [0.0, 0.4]])
    tau, cut = gates.thresholds(rho, 50)
    np.testing.assert_allclose(tau, [0, 0.25])
    opened, always = gates.open_gates(rho, cut, "active")
    assert opened.toarray().tolist() == [[1, 0], [0, 0], [0, 1], [0, 1]]
    assert not always.any()
    assert gates.gate_mean(opened, always).tolist() == [0.25, 0.5]
    opened, always = gates.open_gates(rho, cut, "literal")
    assert always.tolist() == [True, False]
    assert gates.gate_mean(opened, always).tolist() == [1, 0.5]
