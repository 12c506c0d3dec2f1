"""The bounds hold as often as they say, and say what they say at the paper's sizes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from dspa_nn.errors import MapError
from dspa_nn.theory import (
    Sample,
    co_activation,
    concentration_radius,
    confident_map,
    make_world,
    row_bounds,
    row_means,
    sample_of,
    studentised,
)
from tests import eval_zoo

csr_array: Any = sparse.csr_array  # scipy declares no types


def bounded(n: int, seed: int, shift: float = 0.0) -> Sample:
    """Gates of a world with differences of +1 and -1, the farthest that a difference can be."""
    world = make_world(d_in=12, d_out=20, group=3, seed=0)
    generator = np.random.default_rng(seed)
    gates = world.gates(n, generator)
    drho = np.where(generator.random((n, 20)) < 0.5 + shift / 2, 1.0, -1.0)
    return Sample(csr_array(gates), csr_array(drho), np.full(12, 0.5))


@pytest.mark.usefixtures("unchecked")
def test_at_250_triples_the_bound_is_about_one() -> None:
    assert concentration_radius(np.array([25]), 4096)[0] == pytest.approx(0.98, abs=0.01)
    assert np.isinf(concentration_radius(np.array([0]), 4096)[0])
    with pytest.raises(MapError, match=r"delta is 0.0; expected a probability"):
        concentration_radius(np.array([5]), 10, delta=0.0)
    text: Any = "0.05"
    with pytest.raises(MapError, match=r"delta is '0.05'; expected a probability"):
        concentration_radius(np.array([5]), 10, delta=text)
    with pytest.raises(MapError, match=r"delta is 1.5; expected a probability"):
        row_bounds(bounded(5, 0)).needed(20, delta=1.5)


def test_concentration_covers() -> None:
    missed = 0
    for seed in range(60):
        sample = bounded(200, seed)
        found = row_bounds(sample, delta=0.2)
        missed += int((found.largest > found.radius).sum())  # the mean of every entry is 0
    assert missed / (60 * 12) <= 0.2


def test_a_bound_tells_the_sign_of_a_large_mean_once_rows_are_long() -> None:
    few, many = bounded(60, 0, shift=0.6), bounded(3000, 0, shift=0.6)
    assert row_bounds(few).telling < row_bounds(many).telling == 1.0
    needed = row_bounds(few).needed(20)
    assert np.isfinite(needed).all()


def test_row_means_are_the_means_of_open_rows() -> None:
    sample = bounded(50, 3)
    gates, drho = sample.gates.toarray().astype(bool), sample.drho.toarray()
    for row in range(12):
        assert np.allclose(row_means(sample).toarray()[row], drho[gates[:, row]].mean(0))


def test_t_is_that_of_a_one_sample_test() -> None:
    from scipy.stats import ttest_1samp

    sample = sample_of(eval_zoo.counts(20), percentile=50)
    found = studentised(sample)
    gates, drho = sample.gates.toarray().astype(bool), sample.drho.toarray()
    for place in range(0, len(found.row), max(1, len(found.row) // 50)):
        column = drho[gates[:, found.row[place]], found.column[place]]
        if column.std() > 1e-9:
            expected: Any = ttest_1samp(column, 0)
            assert found.t[place] == pytest.approx(expected.statistic)
            assert found.p[place] == pytest.approx(expected.pvalue)


def test_of_noise_hardly_anything_is_discovered_and_of_a_shift_most() -> None:
    assert studentised(bounded(400, 0)).discoveries(0.05).mean() < 0.02
    assert studentised(bounded(400, 0, shift=0.5)).discoveries(0.05).mean() > 0.95


def test_a_confident_map_is_a_part_of_the_map() -> None:
    counts = eval_zoo.counts(20)
    whole = counts.fit(percentile=50, sparsify="none")
    tested = studentised(sample_of(counts, percentile=50))
    kept = confident_map(tested, whole, "discoveries", 0.9)
    dense, all_of_it = kept.to_dense(), whole.to_dense()
    assert 0 < len(kept.values) < len(whole.values)
    assert (dense[dense != 0] - all_of_it[dense != 0]).abs().max() < 1e-6
    assert kept.provenance["confidence"] == {"rule": "discoveries", "level": 0.9}
    assert kept.percentile == 50
    assert not len(confident_map(tested, whole, "bound").values)


@pytest.mark.usefixtures("unchecked")
def test_what_confidence_refuses() -> None:
    counts = eval_zoo.counts(20)
    whole = counts.fit(percentile=50)
    tested = studentised(sample_of(counts, percentile=50))
    with pytest.raises(MapError, match=r"false discovery rate is 2.0"):
        confident_map(tested, whole, "discoveries", 2.0)
    for fewest in (0, 1.5, True):
        with pytest.raises(MapError, match=f"fewest is {fewest}; expected a whole number"):
            studentised(bounded(30, 0), fewest=fewest)  # pyright: ignore[reportArgumentType]
    with pytest.raises(MapError, match=r"fewest is 1; expected at least 2, since the mean of one"):
        studentised(bounded(30, 0), fewest=1)
    with pytest.raises(MapError, match=r"the map is .* use the map of these counts"):
        confident_map(studentised(bounded(30, 0)), whole)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["templates", "own"])
def test_norms_are_one_for_each_gate(name: str) -> None:
    norms: Any = {"templates": np.ones(12), "own": None} | {name: np.ones(11)}
    with pytest.raises(MapError, match=rf"{name} has shape \(11,\); expected \(12,\), one norm"):
        co_activation(bounded(5, 0).gates, norms["templates"], own=norms["own"])


def test_weak_co_activation_holds() -> None:
    world = make_world(d_in=12, d_out=16, group=3, seed=1)
    sample = world.draw(50_000, seed=5, noise=0.0)
    norms = np.linalg.norm(world.B, axis=0)
    spread = float(world.c * np.linalg.norm(world.Sigma, 2))
    found = co_activation(sample.gates, norms, spread)
    off = row_means(sample).toarray() - world.c * (world.Sigma @ world.B).T
    assert (np.linalg.norm(off, axis=1) <= found.bound + 1e-9).all()
    gates = sample.gates.toarray()
    given_open = gates.T @ gates / gates.sum(0)[:, None]
    assert np.allclose(found.others, given_open.sum(1) - 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 0.9), st.floats(0.01, 0.9))
def test_co_activation_holds_in_any_world(seed: int, together: float, alone: float) -> None:
    world = make_world(d_in=6, d_out=5, group=2, together=together, alone=alone, seed=seed)
    sample = world.draw(40, seed=seed, noise=0.0)
    found = co_activation(
        sample.gates,
        np.linalg.norm(world.B, axis=0),
        float(world.c * np.linalg.norm(world.Sigma, 2)),
    )
    opened = sample.opened > 0
    off = row_means(sample).toarray() - world.c * (world.Sigma @ world.B).T
    assert (np.linalg.norm(off, axis=1)[opened] <= found.bound[opened] + 1e-9).all()
