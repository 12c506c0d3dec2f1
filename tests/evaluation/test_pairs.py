"""Pairs of layers, compared on triples that their maps were not fitted on."""

import pytest

import dspa_nn as dn
from dspa_nn.evaluation import accuracy, global_accuracy, margins, rank_pairs, steer_pairs
from dspa_nn.steering import DSPAMethod, SteeringOptions
from tests import eval_zoo

HELD = range(8, 12)
STEER: SteeringOptions = {"alpha": 0.5, "mode": "both", "k_diff": 4}


@pytest.fixture(scope="module")
def sweep() -> dn.LayerSweep:
    sweep = eval_zoo.sweep()
    sweep.count(eval_zoo.triples(12), progress=False)
    return sweep


def test_each_pair_is_fitted_without_the_triples_that_it_ranks(sweep: dn.LayerSweep) -> None:
    pairs = rank_pairs(sweep.counted, HELD, rule={"prompt_rule": "gated"}, percentile=60)
    assert sorted(pair.layers for pair in pairs) == sweep.pairs == [(0, 2), (1, 2)]
    means = [pair.ranking.mean for pair in pairs]
    assert means == sorted(means, reverse=True)
    for pair in pairs:
        counts = sweep.counts(*pair.layers)
        fitting, held = counts.subset(range(8)), counts.subset(HELD)
        map = fitting.fit(percentile=60)
        assert (pair.map.to_dense() == map.to_dense()).all()
        own = accuracy(map, held, prompt_rule="gated")
        assert (pair.ranking.mean, pair.ranking.n) == (own.mean(), 4)
        one = global_accuracy(fitting, held)
        assert pair.of_one_difference.mean == one.mean()
        assert pair.over_one_difference.mean == pytest.approx((own - one).mean())
        assert pair.to_dict()["effect"] is None


def test_each_pair_is_steered_with_its_own_map(sweep: dn.LayerSweep) -> None:
    pairs, triples = rank_pairs(sweep.counted, HELD, percentile=50), eval_zoo.triples(12)[8:]
    steered = steer_pairs(sweep, pairs, triples, STEER)
    assert sorted(pair.layers for pair in steered) == sweep.pairs
    for pair in steered:
        dspa = sweep.dspa(*pair.layers)
        _, alone = margins(dspa, triples, [DSPAMethod("alone", dspa, pair.map, STEER)])
        assert pair.effect == alone.effect()
        assert f"steered margin {pair.effect}" in str(pair)
    changes = [pair.effect.margin.mean for pair in steered if pair.effect]
    assert changes == sorted(changes, reverse=True)


def test_nothing_held_out_or_nothing_left_is_refused(sweep: dn.LayerSweep) -> None:
    for held, words in ((range(12), "0 triples are left to fit on and 12"), ([], "and 0 are held")):
        with pytest.raises(dn.CountsError, match=words):
            rank_pairs(sweep.counted, held)
    with pytest.raises(dn.CountsError, match="triple 40 is not among these 12 counts"):
        rank_pairs(sweep.counted, [40])
