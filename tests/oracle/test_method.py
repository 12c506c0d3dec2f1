"""The oracle's arithmetic against numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest

from tests.oracle import method

NONE: Any = None


def triple(content: list[int], length: int, chosen: list[int], rejected: list[int]) -> Any:
    """Counts with two markup tokens on which the first latent fires, and responses of 4 and 5."""
    markup = [2] + [0] * (len(content) - 1)
    return method.TripleCounts(
        np.array(content), length, np.array(markup), 2, np.array(chosen), 4, np.array(rejected), 5
    )


def fitted(A: list[list[float]], tau: list[float], mean: list[float], gate: str = "active") -> Any:
    """A map of which only what steering reads matters."""
    dense = np.array(A, dtype=np.float32)
    return method.FittedMap(
        dense, dense, np.array(tau), np.array(tau), NONE, np.array(mean), 0.0, gate, []
    )


# -- fitting: section 3 ----------------------------------------------------------------------------


def test_tau_interpolates_and_the_gate_takes_the_order_statistic_above() -> None:
    rho = np.array([[0.0, 0.5], [0.2, 0.0], [0.4, 0.0], [0.8, 0.0]])
    tau, above = method.percentile_of(rho, 50)  # place 1.5
    assert tau == pytest.approx([0.3, 0.0])
    assert above.tolist() == [0.4, 0.0]
    tau, above = method.percentile_of(rho, 100)
    assert tau.tolist() == above.tolist() == [0.8, 0.5]
    tau, above = method.percentile_of(rho[:3], 50)  # place 1, exactly
    assert tau.tolist() == above.tolist() == [0.2, 0.0]


@pytest.mark.parametrize("percentile", [0, 1, 33, 50, 90, 99.5, 100])
def test_tau_is_numpys_percentile_and_both_thresholds_open_the_same_gates(
    percentile: float,
) -> None:
    generator = np.random.default_rng(0)
    rho = generator.integers(0, 6, (37, 20)) / generator.integers(6, 9, (37, 1))
    tau, above = method.percentile_of(rho, percentile)
    np.testing.assert_allclose(tau, np.percentile(rho, percentile, axis=0), rtol=1e-15)
    assert np.array_equal(rho >= tau, rho >= above)


def test_only_a_literal_gate_is_open_where_the_latent_is_silent() -> None:
    rho = np.array([[0.0, 0.5], [0.25, 0.0]])
    assert method.gates_of(rho, np.zeros(2), "literal").tolist() == [[True, True], [True, True]]
    assert method.gates_of(rho, np.zeros(2), "active").tolist() == [[False, True], [True, False]]


def test_the_map_of_two_triples() -> None:
    counts = [
        triple([3, 0], 3, [4, 0, 2], [0, 5, 0]),  # rho 1, 0; drho 1, -1, 0.5
        triple([9, 9], 0, [4, 4, 4], [0, 0, 0]),  # nothing counts: skipped, N stays 2
        triple([1, 1], 4, [2, 0, 0], [0, 0, 5]),  # rho 0.25, 0.25; drho 0.5, 0, -1
    ]
    got = method.fit_map(counts, percentile=0, sparsify_rule="none")
    assert got.kept == [0, 2]
    assert got.tau.tolist() == [0.25, 0.0]
    assert got.gates.tolist() == [[True, False], [True, True]]
    assert got.mean_gate.tolist() == [1.0, 0.5]
    assert got.A.dtype == np.float32
    assert got.A.tolist() == [[0.75, -0.5, -0.25], [0.25, 0.0, -0.5]]
    literal = method.fit_map(counts, percentile=0, gate="literal", sparsify_rule="none")
    assert literal.A.tolist() == [[0.75, -0.5, -0.25], [0.75, -0.5, -0.25]]


def test_all_tokens_add_the_markup_and_keep_the_triple_without_content() -> None:
    counts = [triple([3, 0], 3, [4, 0], [0, 5]), triple([0, 0], 0, [4, 4], [0, 0])]
    got = method.fit_map(counts, percentile=0, prompt_tokens="all", sparsify_rule="none")
    assert got.kept == [0, 1]
    assert got.tau.tolist() == [1.0, 0.0]  # (3 + 2) / (3 + 2), and 2 / 2


def test_the_map_is_rounded_once_after_the_mean() -> None:
    generator = np.random.default_rng(1)
    gates = generator.random((30, 4)) > 0.5
    drho = generator.normal(size=(30, 5))
    expected = np.einsum("ki,kj->ij", gates.astype(float), drho) / 30
    np.testing.assert_allclose(method.mean_difference(gates, drho), expected, atol=1e-15)


# -- sparsification: section 3.4 -------------------------------------------------------------------

WIDE = np.array(
    [[5, -4, 3, -2, 1], [0, 0, 0, 0, 0], [0, 0, 0, 2.5, 0], [0.5, 0.5, 2, -0.5, 6]],
    dtype=np.float32,
)


def test_paper_rule_takes_the_smallest_extreme_and_leaves_zeros_out_of_the_minimum() -> None:
    # k = 1: extremes 5, -4; 0, 0; 2.5, 0; 6, -0.5. The smallest that is not zero is 0.5.
    kept, cutoff = method.sparsify(WIDE, "paper", 1)
    assert cutoff == 0.5
    assert np.array_equal(kept, WIDE)
    without_last, cutoff = method.sparsify(WIDE[:3], "paper", 1)
    assert cutoff == 2.5
    assert without_last.tolist() == [[5, -4, 3, 0, 0], [0] * 5, [0, 0, 0, 2.5, 0]]


def test_paper_rule_ranks_zeros_so_a_small_entry_between_them_is_no_extreme() -> None:
    # The smallest of the row is one of its zeros, not 1: zeros take part in the ranking.
    row = np.array([[0, 0, 1, 4, 8]], dtype=np.float32)
    kept, cutoff = method.sparsify(row, "paper", 1)
    assert (cutoff, kept.tolist()) == (8, [[0, 0, 0, 0, 8]])


@pytest.mark.parametrize("k_diff", [3, 5, 100])
def test_a_row_no_wider_than_twice_k_is_taken_whole(k_diff: int) -> None:
    kept, cutoff = method.sparsify(WIDE[:1], "paper", k_diff)
    assert cutoff == 1
    assert np.array_equal(kept, WIDE[:1])
    assert np.array_equal(method.sparsify(WIDE, "rows", k_diff)[0], WIDE)


def test_a_map_of_zeros_stays_one() -> None:
    kept, cutoff = method.sparsify(np.zeros((2, 5), np.float32), "paper", 1)
    assert (cutoff, kept.any()) == (0, False)


def test_rows_rule_keeps_two_k_entries_a_row_ties_to_the_lower_index() -> None:
    kept, cutoff = method.sparsify(WIDE, "rows", 1)
    assert cutoff == 0
    assert kept.tolist() == [[5, -4, 0, 0, 0], [0] * 5, [0, 0, 0, 2.5, 0], [0, 0, 0, -0.5, 6]]
    tied = np.array([[1, 1, 1, 0, -2, -2, -2]], dtype=np.float32)
    assert method.sparsify(tied, "rows", 2)[0].tolist() == [[1, 1, 0, 0, -2, -2, 0]]


def test_a_budget_raises_the_cutoff_until_it_fits_and_never_splits_a_tie() -> None:
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=3)
    assert (cutoff, sorted(abs(kept[kept != 0]))) == (4, [4, 5, 6])
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=7)  # 2 twice: 5 stay, not 7
    assert (cutoff, np.count_nonzero(kept)) == (2, 7)
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=6)
    assert (cutoff, np.count_nonzero(kept)) == (2.5, 5)
    kept, cutoff = method.sparsify(np.ones((2, 2), np.float32), "none", 1, max_entries=3)
    assert (cutoff, np.count_nonzero(kept)) == (float("inf"), 0)
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=100)
    assert (cutoff, np.array_equal(kept, WIDE)) == (0, True)


# -- planning: sections 4.1 and 4.2 ----------------------------------------------------------------


def test_prompt_latents_are_active_ones_by_count_ties_to_the_lower_index() -> None:
    counts = np.array([2, 0, 3, 2, 1, 2])
    assert method.prompt_latents(counts, 3) == [2, 0, 3]
    assert method.prompt_latents(counts, 100) == [2, 0, 3, 5, 4]


def test_weights_of_the_three_prompt_rules() -> None:
    a_map = fitted([[0.0]] * 3, tau=[0.5, 0.0, 0.5], mean=[0.25, 0.5, 0.75])
    counts = np.array([2, 0, 1])

    def weigh(rule: str, k: int) -> list[float]:
        return method.weights(a_map, counts, 4, rule, k).tolist()

    assert weigh("density", 1) == [1, 0, 0]
    assert weigh("density", 9) == [1, 0, 1]
    assert weigh("gated", 1) == [1, 0, 0]  # rho 0.5, 0, 0.25 against tau; k_prompt is not read
    assert weigh("centred", 1) == [0.75, -0.5, -0.75]
    a_map.gate = "literal"
    assert weigh("gated", 1) == [1, 1, 0]


def test_scores_add_the_stored_float32_in_float64() -> None:
    A = np.array([[0.1, 1e8], [0.2, 1], [0.4, 1]], dtype=np.float32)
    s = method.scores(A, np.array([1.0, 1.0, 0.0]))
    assert s.tolist() == [float(np.float32(0.1)) + float(np.float32(0.2)), 1e8 + 1]


def test_selection_takes_signs_and_ties_and_bars_before_choosing() -> None:
    s = np.array([0.0, -1.0, 2.0, -1.0, 2.0, -3.0, 1.0])
    assert method.select(s, 2, mode="both") == ([2, 4], [5, 1])
    assert method.select(s, 9, mode="both") == ([2, 4, 6], [5, 1, 3])
    assert method.select(s, 2) == ([], [5, 1])
    assert method.select(s, 2, mode="augment") == ([2, 4], [])
    assert method.select(s, 2, mode="both", never=[5, 2]) == ([4, 6], [1, 3])
    assert method.select(s, 2, mode="both", only=[0, 3, 6]) == ([6], [3])
    assert method.select(s, 1, mode="both", only=[3, 4], never=[4]) == ([], [3])


@pytest.mark.parametrize("rule", ["density", "gated", "centred"])
def test_a_prompt_without_counted_tokens_plans_nothing(rule: str) -> None:
    a_map = fitted([[-1.0, 1.0]], tau=[0.0], mean=[1.0], gate="literal")
    plan = method.make_plan(a_map, np.array([0]), 0, prompt_rule=rule, mode="both")
    assert (plan.prompt_latents, plan.augment, plan.ablate) == ([], [], [])
    counted = method.make_plan(a_map, np.array([1]), 1, mode="both")
    assert (counted.prompt_latents, counted.augment, counted.ablate) == ([0], [1], [0])


# -- the edit: section 4.3 ----------------------------------------------------------------


def test_the_edit_moves_active_planned_latents_by_a_share_of_the_largest() -> None:
    f = np.array([4.0, 0.0, 1.0, 3.0, 0.5, 0.0])
    plan = method.Plan([], NONE, augment=[1, 2], ablate=[3, 4, 5])
    assert method.edit(f, plan, 0.25).tolist() == [4.0, 0.0, 2.0, 2.0, 0.0, 0.0]
    assert method.edit(f, plan, 0.0).tolist() == f.tolist()
    assert f.tolist() == [4.0, 0.0, 1.0, 3.0, 0.5, 0.0]
    greatest = method.Plan([], NONE, augment=[], ablate=[0, 2])  # M_t from before the edit
    assert method.edit(f, greatest, 0.5).tolist() == [2.0, 0.0, 0.0, 3.0, 0.5, 0.0]
