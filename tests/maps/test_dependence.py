"""How much of a preference depends on the prompt: against loops, and where it is known."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts, CountRows
from dspa_nn.maps import PromptDependence
from dspa_nn.maps.dependence import FEWEST, MOST, explained, prompt_dependence, spread
from tests.count_zoo import PROVENANCE, random_counts

NEVER = np.zeros(6, dtype=bool)


def planted(same: float, special: float, n: int = 120, noise: float = 1.0) -> tuple[Any, Any]:
    """Prompts of two kinds, and differences with a part of either sort."""
    rng = np.random.default_rng(3)
    kind = np.arange(n) % 2
    gates = np.column_stack([kind, 1 - kind, rng.integers(0, 2, (n, 4))]).astype(float)
    one, other = rng.normal(size=(2, 30))
    drho = rng.normal(size=(n, 30)) * noise + same * one + special * np.outer(2 * kind - 1, other)
    return csr_array(gates), csr_array(drho)


def naive(gates, drho, fitted, held_out):
    """docs/method.md 3.5 with vectors, one triple after another."""
    mean, open_on = drho[fitted].mean(0), gates[fitted].mean(0)
    A = sum(np.outer(gates[k] - open_on, drho[k] - mean) for k in fitted) / len(fitted)
    pairs = {"shared": [], "conditional": []}
    for k in held_out:
        pairs["shared"].append((mean, drho[k]))
        pairs["conditional"].append(((gates[k] - open_on) @ A, drho[k] - mean))
    shares = []
    whole = 0.0
    for predictions in pairs.values():
        whole = max(whole, np.mean([t @ t for _, t in predictions]))
        hit = np.mean([p @ t for p, t in predictions])
        size = np.mean([p @ p for p, _ in predictions])
        shares.append(np.sign(hit) * hit**2 / size / whole)
    return shares


@pytest.mark.parametrize(("same", "special"), [(0, 0), (0.5, 0), (0, 0.5), (1, 1)])
def test_shares_are_those_of_the_formula(same, special):
    gates, drho = (table.toarray() for table in planted(same, special, n=24))
    order = np.random.default_rng(0).permutation(24)
    for fitted, held_out in ((order[:12], order[12:]), (order[12:], order[:12])):
        got = explained(gates @ gates.T, drho @ drho.T, fitted, held_out)
        assert np.allclose(got, naive(gates, drho, fitted, held_out), atol=1e-9)


def test_each_part_is_found_where_it_was_planted_and_noise_is_neither():
    none, same, special, both = (
        prompt_dependence(*_with(planted(*parts)), longer=0.5)
        for parts in ((0, 0), (1, 0), (0, 1), (1, 1))
    )
    for found in (none, same):
        assert abs(found.conditional) < 0.01
        assert found.chance > 0.05
        assert not found.found
    for found in (special, both):
        assert found.conditional > 0.2
        assert found.chance == 0.01
        assert found.found
    assert special.depends
    assert max(abs(none.shared), abs(special.shared)) < 0.05
    assert min(same.shared, both.shared) > 0.2


def _with(tables):
    gates, drho = tables
    return gates, NEVER, drho


def test_gates_that_never_close_tell_no_prompts_apart():
    gates, drho = planted(0, 1)
    always = np.array([True, True, False, False, False, False])
    assert not prompt_dependence(gates, always, drho, 0.5).found


def test_scales_and_order_of_latents_do_not_matter():
    gates, drho = planted(0.5, 0.5)
    one = prompt_dependence(gates, NEVER, drho, 0.5)
    other = prompt_dependence(gates[:, [5, 3, 4, 0, 2, 1]], NEVER, drho[:, ::-1] * 1024, 0.5)
    assert np.isclose(one.shared, other.shared)
    assert np.isclose(one.conditional, other.conditional)
    assert one.chance == other.chance


def test_the_rows_that_are_looked_at_are_spread_over_the_table():
    assert spread(7).tolist() == [0, 1, 2, 3, 4, 5, 6]
    rows = spread(3 * MOST + 1)
    assert len(np.unique(rows)) == MOST
    assert rows[-1] > 3 * MOST - 4


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_triples_give_figures_that_say_nothing(n):
    found = random_counts(5, n).prompt_dependence(percentile=50)
    assert found.triples == n
    assert not found.enough
    assert np.isfinite([found.shared, found.conditional, found.chance, found.longer]).all()


def test_a_map_tells_what_its_fit_found(tmp_path):
    counts = random_counts(1, FEWEST)
    found = counts.prompt_dependence(percentile=75, prompt_tokens="all")
    map = counts.fit(percentile=75, prompt_tokens="all")
    assert map.provenance["prompt_dependence"] == found.to_dict()
    assert repr(map).splitlines()[-1] == f"  {found}"
    assert "held-out" not in repr(random_counts(1, FEWEST - 1).fit())
    map.save(tmp_path)
    assert dn.ConditionalDifferenceMap.load(tmp_path).provenance == map.provenance
    longer = np.sign(counts.chosen_length - counts.rejected_length)
    assert np.isclose(found.longer, (longer.mean() + 1) / 2)


def test_a_table_in_parts_gives_what_the_whole_gives():
    whole = random_counts(2, 40)
    parts = [whole.subset(whole.index[start::3]) for start in range(3)]
    assert ActivationCounts.concatenate(parts).prompt_dependence() == whole.prompt_dependence()


def test_a_map_of_another_kind_says_nothing_of_it():
    map = dn.ConditionalDifferenceMap.from_dense(
        [[0.5]], provenance={"prompt_dependence": {"a": 1}}
    )
    assert "held-out" not in repr(map)


def with_preset(special: float, rule: str) -> ActivationCounts:
    """Counts of two kinds of prompts, taken with a preset that votes by `rule`."""
    rng = np.random.default_rng(1)
    n = 2 * FEWEST
    kind = np.arange(n) % 2
    prompts = np.column_stack([4 * kind, 4 - 4 * kind])
    wanted = np.where(rng.random(n) < special, kind, rng.integers(0, 2, n))
    chosen = np.column_stack([4 * wanted, 4 - 4 * wanted])
    four = np.full(n, 4)
    rows = CountRows(
        np.arange(n),
        prompts,
        np.zeros_like(prompts),
        chosen,
        4 - chosen,
        four,
        0 * four,
        four,
        four,
    )
    defaults = {"prompt_rule": rule, "percentile": 50}
    return ActivationCounts(rows, provenance={**PROVENANCE, "defaults": defaults})


def test_a_fit_warns_where_the_presets_rule_throws_the_preference_away(recwarn):
    with_preset(1.0, "centred").fit()
    with_preset(0.0, "gated").fit()
    with_preset(0.0, "centred").subset(range(FEWEST - 1)).fit()
    assert not recwarn.list
    with pytest.warns(dn.DSPAWarning, match="centred") as caught:
        map = with_preset(0.0, "centred").fit()
    (warning,) = caught
    found = PromptDependence(**map.provenance["prompt_dependence"])
    assert str(warning.message) == (
        "prompt_rule 'centred', the preset's, steers only by what depends on the prompt; that "
        f"explains {found.conditional:.2%} of a held-out difference here, and one difference for "
        f"all prompts {found.shared:.2%}: compare with prompt_rule='gated' (docs/choose.md)"
    )
