from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import dspa_nn as dn
from dspa_nn.evaluation import encode, margins, mean_difference
from dspa_nn.evaluation.controls import (
    densities,
    density_matched,
    global_difference,
    permuted,
    replacements,
    swapped,
)
from dspa_nn.evaluation.strength import calibrate, nearest_alpha, nearest_k
from dspa_nn.graph.select import select
from dspa_nn.steering import DSPAMethod, SteeringOptions
from tests import eval_zoo


@pytest.fixture(scope="module")
def map():
    return eval_zoo.counts().fit(percentile=50, sparsify="rows", k_diff=3)


@pytest.fixture(scope="module")
def development():
    return eval_zoo.triples(8, seed=7)


@pytest.fixture(scope="module")
def codes(development):
    return encode(eval_zoo.dspa(), development)


def test_a_permutes_the_rows_that_are_not_empty_and_leaves_the_gates(map):
    other = permuted(map, seed=3)
    before, after = map.to_dense(), other.to_dense()
    assert sorted(map.rows.tolist()) == sorted(other.rows.tolist())
    rows = [tuple(row) for row in before.tolist()]
    assert sorted(rows) == sorted(tuple(row) for row in after.tolist())
    assert not torch.equal(before, after)
    assert map.tau is not None
    assert other.tau is not None
    assert torch.equal(map.tau, other.tau)
    assert map.gate_mean is not None
    assert other.gate_mean is not None
    assert torch.equal(map.gate_mean, other.gate_mean)
    assert torch.equal(permuted(map, seed=3).to_dense(), after)
    assert not torch.equal(permuted(map, seed=4).to_dense(), after)


def test_c_is_the_map_fitted_with_chosen_and_rejected_exchanged():
    triples = eval_zoo.triples(20)
    turned = [replace(own, chosen=own.rejected, rejected=own.chosen) for own in triples]
    fitted = eval_zoo.dspa().count(turned).fit(percentile=50)
    map = eval_zoo.counts().fit(percentile=50)
    assert torch.equal(swapped(map).to_dense(), -map.to_dense())
    assert torch.allclose(swapped(map).to_dense(), fitted.to_dense(), atol=1e-7)


def test_densities_are_over_all_response_tokens():
    counts = eval_zoo.counts()
    fired = counts.chosen.toarray().sum(0) + counts.rejected.toarray().sum(0)
    tokens = counts.chosen_length.sum() + counts.rejected_length.sum()
    assert densities(counts) == pytest.approx(fired / tokens)


def test_b_takes_the_nearest_unplanned_density_and_none_twice():
    density = np.array([0.50, 0.10, 0.48, 0.52, 0.11, 0.90])
    # 0 and 3 are planned: 2 is nearest to both and is taken once; then 5 at 0.90 against 4 at 0.11.
    assert replacements(np.array([0, 3, -1]), density).tolist() == [2, 5, -1]
    assert replacements(np.array([0, 1, 2, 3, 4, 5]), density).tolist() == [-1] * 6


def test_b_never_edits_a_planned_latent_and_stays_within_a_tenth_where_it_can(map, codes):
    draw = np.random.default_rng(0)
    density = np.exp(draw.normal(-4, 0.3, 4096))
    score = torch.from_numpy(draw.normal(0, 1, (5, 4096)))
    planned = torch.cat(select(score, 16, "both", None), -1)
    augment, ablate = density_matched(density)(score, 16, "both", None)
    assert augment.shape == ablate.shape == (5, 16)
    for row, other in zip(planned, torch.cat([augment, ablate], -1), strict=True):
        assert not set(row.tolist()) & set(other.tolist())
        assert len(set(other.tolist())) == 32
        near = np.abs(density[other] / density[row] - 1)
        assert near.max() <= 0.1


def test_d_plans_the_same_for_every_prompt(codes, map):
    score = mean_difference(eval_zoo.counts())
    method = DSPAMethod(
        "d", eval_zoo.dspa(), map, {**eval_zoo.STEER, "select": global_difference(score)}
    )
    planned, signs = codes.planned(method)
    lowest = np.argsort(score, kind="stable")[:4]
    assert planned.tolist() == [lowest.tolist()] * 8
    assert (signs == -1).all()


def test_strength_by_arithmetic_is_what_the_steered_model_does(map, codes, development):
    methods = [
        DSPAMethod("map", eval_zoo.dspa(), map, eval_zoo.STEER),
        DSPAMethod("both", eval_zoo.dspa(), map, {**eval_zoo.STEER, "mode": "both", "alpha": 0.1}),
        DSPAMethod(
            "b",
            eval_zoo.dspa(),
            map,
            {**eval_zoo.STEER, "select": density_matched(densities(eval_zoo.counts()))},
        ),
    ]
    measured = margins(eval_zoo.dspa(), development, methods)[1:]
    for method, own in zip(methods, measured, strict=True):
        alpha = codes.settings(method)["alpha"]
        plan = codes.planned(method)
        edits, share = codes.strength(*plan, alpha=alpha)
        assert edits == pytest.approx(own.edits.mean())
        assert share == pytest.approx(own.share.mean(), rel=1e-4)
        assert codes.edits(*plan, alpha=alpha) == edits


def test_calibration_reaches_the_maps_strength_where_it_can(map, codes):
    target = DSPAMethod("map", eval_zoo.dspa(), map, eval_zoo.STEER)
    control, match = calibrate(
        codes,
        DSPAMethod(
            "c", eval_zoo.dspa(), swapped(map), {**eval_zoo.STEER, "k_diff": 1, "alpha": 5.0}
        ),
        target,
    )
    own = codes.strength(*codes.planned(target), alpha=0.4)
    assert (match.wanted_edits, match.wanted_share) == own
    assert match.within
    assert control.options.get("k_diff") == match.k_diff
    assert codes.strength(*codes.planned(control), alpha=match.alpha) == (match.edits, match.share)


def test_calibration_takes_the_nearest_where_an_ablation_cannot_go_as_far(map, codes):
    target = DSPAMethod(
        "map", eval_zoo.dspa(), map, {**eval_zoo.STEER, "mode": "both", "alpha": 20.0}
    )
    control, match = calibrate(
        codes, DSPAMethod("c", eval_zoo.dspa(), swapped(map), eval_zoo.STEER), target
    )
    assert not match.within
    most = codes.strength(*codes.planned(control), alpha=1.0)[1]
    assert match.share == pytest.approx(most, rel=1e-3)
    assert match.to_dict()["within_10_percent"] is False


def test_searches_on_known_curves():
    assert nearest_k(lambda k: 0.5 * k, 2.1, 16) == 4
    assert nearest_k(lambda k: min(k, 3), 100.0, 16) == 3
    assert nearest_alpha(lambda a: 3 * a, 6.0) == pytest.approx(2.0, rel=1e-3)
    # A share that stops growing at alpha 0.5: the lowest alpha that gets there.
    assert nearest_alpha(lambda a: min(a, 0.5), 9.0) == pytest.approx(0.5, rel=1e-3)


def test_prompts_are_counted_as_steering_counts_them(codes, development):
    counts = eval_zoo.dspa().count(development)
    for kind in ("content", "all"):
        table, lengths = counts.prompt(kind)
        assert np.array_equal(codes.counts[kind].numpy(), table.toarray())
        assert np.array_equal(codes.lengths[kind].numpy(), lengths)
    assert isinstance(development[0], dn.PreferenceTriple)


def test_plans_are_those_of_the_runs_with_every_option(map, codes, development):
    dspa = eval_zoo.dspa()
    given: tuple[SteeringOptions, ...] = (
        {"only": range(20)}, {"never": [3, 4], "mode": "both"}, {"k_diff": 2}
    )  # fmt: skip
    for options in given:
        merged: Any = {**eval_zoo.STEER, **options}
        method = DSPAMethod("", dspa, map, merged)
        planned, signs = codes.planned(method)
        plans = dspa.plan(map, [dspa.render(t.prompt) for t in development], **method.options)
        for row, sign, plan in zip(planned, signs, plans, strict=True):
            assert row[row >= 0].tolist() == plan.latents
            assert sign[row >= 0].tolist() == [1] * len(plan.augment) + [-1] * len(plan.ablate)
