"""The causal check: each top latent alone, and whether its place predicts its effect."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspa_nn import ConditionalDifferenceMap
from dspa_nn.audit import causal_check, top_latents
from dspa_nn.errors import DSPAError, MapError, TripleError
from dspa_nn.evaluation import edit_alone, margins
from tests import eval_zoo


def test_it_measures_the_latents_of_the_largest_sums(tmp_path: Path) -> None:
    dspa, held_out = eval_zoo.dspa(), eval_zoo.triples(6, seed=3)
    map = eval_zoo.counts(20).fit(percentile=50)
    check = causal_check(
        dspa, map, held_out, latents=7, answers=3, max_new_tokens=4, folder=tmp_path
    )
    sums = map.column_sums()
    assert [abs(one.column_sum) for one in check.effects] == sorted(
        sums.abs().tolist(), reverse=True
    )[:7]
    for one in (check.effects[0], check.effects[-1]):
        _, wanted = margins(dspa, held_out, [edit_alone(dspa, one.latent)])
        assert one.margin == wanted.effect()
        assert one.kl.mean == pytest.approx(wanted.kl.mean())
        plans = [dspa.plan(map, triple.prompt) for triple in held_out]
        assert one.planned == sum(one.latent in plan.latents for plan in plans)
        assert one.score == pytest.approx(np.mean([plan.scores[one.latent] for plan in plans]))
    parts = sorted((tmp_path / "parts").iterdir())
    made = [path.stat().st_mtime_ns for path in parts]
    again = causal_check(
        dspa, map, held_out, latents=7, answers=3, max_new_tokens=4, folder=tmp_path
    )
    assert again == check
    assert [path.stat().st_mtime_ns for path in parts] == made
    assert (
        json.loads(json.dumps(check.to_dict()))["correlations"].keys() == check.correlations.keys()
    )


def test_a_map_without_entries_has_no_latents_to_ablate() -> None:
    dspa = eval_zoo.dspa()
    empty = ConditionalDifferenceMap.from_dense(
        np.zeros((dspa.input_sae.width, dspa.output_sae.width))
    )
    assert top_latents(empty) == []
    with pytest.raises(MapError, match="no entry that is not 0, so there is no latent to ablate"):
        causal_check(dspa, empty, eval_zoo.triples(3))


@pytest.mark.parametrize(
    ("given", "count", "kind", "sentence"),
    [
        ({}, 0, TripleError, "no triples came to check latents on"),
        ({"latents": []}, 3, DSPAError, "latents is an empty list; name one at least"),
        ({"latents": "9"}, 3, DSPAError, "latents is '9'; give how many to take"),
        ({"latents": [9, 4, 9]}, 3, DSPAError, "latents names 9 more than once"),
        ({"latents": [1, 40]}, 3, DSPAError, "output latent 40 came, and the SAE has 40"),
        ({"latents": 0}, 3, MapError, "latents is 0; expected a whole number of at least 1"),
        ({"answers": -1}, 3, DSPAError, "answers is -1; expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_a_pass(
    given: Any, count: int, kind: type[DSPAError], sentence: str, unchecked: None
) -> None:
    map = eval_zoo.counts(20).fit(percentile=50)
    with pytest.raises(kind, match=sentence):
        causal_check(eval_zoo.dspa(), map, eval_zoo.triples(count), **given)
