"""What a map steers: sums of a dense map, coverage by its weights, halves by their fits."""

import json
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch

from dspa_nn import ConditionalDifferenceMap, CountsError, MapError
from dspa_nn.audit import LatentMeaning, coverage, stability, steered_latents
from dspa_nn.shown import pyplot
from tests import eval_zoo

mpl.use("agg")


@pytest.fixture(scope="module")
def map() -> ConditionalDifferenceMap:
    return eval_zoo.counts().fit(percentile=50, sparsify="none")


def test_latents_rank_by_the_sums_of_the_dense_map(map: ConditionalDifferenceMap) -> None:
    dense = map.to_dense().double()
    found = steered_latents(map, 5)
    sums, sizes = dense.sum(0), dense.abs().sum(1)
    assert [one.sum for one in found.augment] == sums.sort(descending=True).values[:5].tolist()
    assert [one.sum for one in found.ablate] == pytest.approx(sums.sort().values[:5].tolist())
    assert [one.size for one in found.prompt] == pytest.approx(
        sizes.sort(descending=True).values[:5].tolist()
    )
    assert [one.size for one in found.either] == pytest.approx(
        dense.abs().sum(0).sort(descending=True).values[:5].tolist()
    )
    first = found.prompt[0]
    assert first.sum == pytest.approx(float(dense[first.latent].sum()))
    assert first.entries == int((dense[first.latent] != 0).sum())
    assert map.gate_mean is not None
    assert first.opened == float(map.gate_mean[first.latent])
    assert found.augment[0].opened is None
    assert found.columns == (int((sums > 0).sum()), int((sums < 0).sum()))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["prompt"][0] == first._asdict()
    assert [one["latent"] for one in told["ablate"]] == [one.latent for one in found.ablate]
    assert told["columns"] == list(found.columns)


def test_ties_go_to_the_lower_latent_and_signs_do_not_mix() -> None:
    map = ConditionalDifferenceMap.from_dense([[0.5, 0.5, -0.25, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = steered_latents(map)
    assert [one.latent for one in found.augment] == [0, 1]
    assert [one.latent for one in found.ablate] == [2]
    assert [(one.latent, one.sum, one.size) for one in found.prompt] == [(0, 0.75, 1.25)]
    doubled = steered_latents(2 * map)
    assert [one.sum for one in doubled.augment] == [1.0, 1.0]


def test_words_come_from_the_meanings_and_stay_text(map: ConditionalDifferenceMap) -> None:
    worst = steered_latents(map).ablate[0].latent
    meaning = LatentMeaning(explanation="<script>alert(1)</script>")
    found = steered_latents(map, 3, meanings={worst: meaning})
    assert found.ablate[0].words == "<script>alert(1)</script>"
    assert "<script" not in found._repr_html_()
    assert "&lt;script" in found._repr_html_()
    assert found.to_pandas()["set"].tolist() == [
        name for name in ("augment", "ablate", "either", "prompt") for _ in range(3)
    ]
    assert f"{worst}" in str(found)
    left, right = found.plot()
    assert len(left.patches) == 6
    assert len(right.patches) == 3
    pyplot().close("all")


def test_coverage_counts_the_rows_that_gates_open(map: ConditionalDifferenceMap) -> None:
    counts = eval_zoo.dspa().count(eval_zoo.triples(12, seed=5), progress=False)
    table, lengths = counts.prompt("content")
    open_ = map.weights(table, lengths, prompt_rule="gated")[:, map.rows] > 0
    found = coverage(map, counts)
    assert found.opened.tolist() == open_.sum(1).tolist()
    assert found.times.tolist() == open_.sum(0).tolist()
    assert found.rule == "gated"
    assert found.never == map.rows[~open_.any(0)].tolist()
    assert found.covered.mean == float(open_.any(1).double().mean())
    assert coverage(map, counts, prompt_rule="centred").opened.tolist() == found.opened.tolist()
    dense = coverage(map, counts, prompt_rule="density", k_prompt=2)
    assert dense.opened.max() <= 2
    assert dense.fitted is None
    assert "open at least one of the map's" in str(found)
    assert "<script" not in found._repr_html_()
    assert found.plot().get_xlabel() == "row of the map"
    pyplot().close("all")


def test_a_prompt_that_opens_nothing_is_named_and_a_sum_opens_what_a_member_does(
    map: ConditionalDifferenceMap,
) -> None:
    dspa = eval_zoo.dspa()
    plans = [dspa.plan(map, text) for text in ("sun and moon", "tea")]
    found = coverage(map, plans)
    one = int(plans[0].made.counts.argmax())
    narrow = map.restrict(rows=[one])
    alone = coverage(narrow, plans, prompt_rule="density", k_prompt=map.shape[0])
    assert alone.without == [n for n, plan in enumerate(plans) if not plan.made.counts[one]]
    both = coverage(narrow + 2 * map.restrict(rows=map.rows[map.rows != one]), plans)
    assert both.rows.tolist() == map.rows.tolist()
    assert both.opened.tolist() == found.opened.tolist()


def test_halves_are_compared_with_the_whole() -> None:
    counts = eval_zoo.counts()
    found = stability(counts, resamplings=4, n=6, percentile=50)
    generator = np.random.default_rng(0)
    halves: list[Any] = []
    for _ in range(2):
        order = generator.permutation(counts.index)
        halves += [counts.subset(part).fit(percentile=50) for part in (order[:10], order[10:])]
    for name, one in found.sets.items():
        sets = [{own.latent for own in getattr(steered_latents(half, 6), name)} for half in halves]
        assert one.overlap.tolist() == [
            len(sets[i] & sets[i + 1]) / max(len(sets[i]), len(sets[i + 1])) for i in (0, 2)
        ]
        assert one.kept.tolist() == [
            sum(latent in own for own in sets) / 4 for latent in one.latents
        ]
    assert set(found.sets["prompt"].always) <= set(found.sets["prompt"].latents)
    assert "halves of 20 triples, 2 splits" in str(found)
    assert "<script" not in found._repr_html_()
    assert found.plot().get_ylabel() == "share of halves"
    pyplot().close("all")


def test_what_is_refused(map: ConditionalDifferenceMap) -> None:
    counts = eval_zoo.counts()
    empty = ConditionalDifferenceMap.from_dense(torch.zeros(2, 2))
    with pytest.raises(MapError, match="the map has no entries, so it steers nothing"):
        steered_latents(empty)
    with pytest.raises(MapError, match="n is 0; expected a whole number"):
        steered_latents(map, 0)
    with pytest.raises(MapError, match="the map has no entries, so no prompt can open a row"):
        coverage(empty, counts)
    with pytest.raises(MapError, match="given no prompts; give counts or plans"):
        coverage(map, [])
    with pytest.raises(MapError, match="needs the map's tau, which this map does not hold"):
        coverage(ConditionalDifferenceMap.from_dense(map.to_dense()), counts, prompt_rule="gated")
    other = ConditionalDifferenceMap.from_dense(map.to_dense(), provenance={"input_layer": 7})
    with pytest.raises(MapError, match="layer"):
        coverage(other, counts)
    with pytest.raises(MapError, match="seed is -1; expected a whole number of at least 0"):
        stability(counts, seed=-1)
    with pytest.raises(MapError, match="resamplings is 3; expected an even number"):
        stability(counts, resamplings=3)
    with pytest.raises(CountsError, match="given 4 triples, and halves of fewer than 8"):
        stability(counts.subset([0, 1, 2, 3]))
