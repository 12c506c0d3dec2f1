"""Static-SAE, the global difference and the random map: DSPA's edit without its condition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn import SteeringError
from dspa_nn.baselines import (
    fit_caa,
    fit_global_difference,
    fit_random_map,
    fit_static_sae,
    one_for_all,
)
from dspa_nn.evaluation import calibrate, encode, global_difference, mean_difference
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import DSPAMethod
from tests import steer_zoo
from tests.baselines import zoo
from tests.elsewhere import run_elsewhere
from tests.oracle import method as oracle_method
from tests.oracle import model as oracle
from tests.steer_zoo import STEPS, Lab, deviation, listed, padded


@pytest.fixture(scope="module", params=[("gemma2", "add"), ("llama", "markup")], ids=lambda p: p[0])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param)


def mean_drho(lab: Lab) -> np.ndarray:
    """The mean of drho from the oracle's own counts."""
    return np.mean(
        [
            own.chosen / own.chosen_length - own.rejected / own.rejected_length
            for own in lab.oracle_counts
        ],
        0,
    )


def one_plan(score: np.ndarray, k: int, mode: str) -> Any:
    order = np.argsort(score, kind="stable")
    lowest = [int(j) for j in order if score[j] < 0][:k]
    highest = [int(j) for j in np.argsort(-score, kind="stable") if score[j] > 0][:k]
    ablate, augment = mode != "augment", mode != "ablate"
    return highest if augment else [], lowest if ablate else []


@pytest.mark.parametrize("mode", ["ablate", "augment", "both"])
def test_static_sae_is_the_oracles(lab: Lab, mode: Any) -> None:
    fitted = fit_static_sae(lab.dspa, lab.counts, k_diff=5, mode=mode)
    own = one_for_all("static", lab.dspa, fitted)
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    inputs = padded(lab, rows)
    augment, ablate = one_plan(mean_drho(lab), 5, mode)
    plans = [oracle_method.Plan([], mean_drho(lab), augment, ablate) for _ in rows]
    wanted = oracle.steered_generate(
        lab.hf, lab.sae_out, lab.layers[1], plans, inputs["input_ids"], inputs["attention_mask"],
        alpha=0.5, max_new_tokens=STEPS, bos_id=lab.tok.bos_token_id,
    )  # fmt: skip
    call = {"max_new_tokens": STEPS, "do_sample": False, "output_logits": True}
    call["return_dict_in_generate"] = True
    with lab.dspa.attach(lab.hf, fitted, **own.options) as log:
        hooked = lab.hf.generate(**inputs, **call)
    with lab.nn.generate(inputs, **call) as tracer:
        traced_log = own.apply()
        traced = tracer.result.save()
    for result, edits in ((hooked, log), (traced, traced_log)):
        assert torch.equal(result.sequences, wanted.ids)
        assert deviation(torch.stack(result.logits), wanted.logits) <= 1e-5
        assert listed(edits)[0] == listed(wanted.edits)[0]
        assert edits.total > 0


def test_the_global_difference_is_the_demos_control(lab: Lab) -> None:
    fitted = fit_global_difference(lab.dspa, lab.counts, keep=40)
    settings: Any = {"alpha": 0.5, "k_diff": 6, "mode": "both"}
    own = one_for_all("global", lab.dspa, fitted, settings)
    select = global_difference(mean_difference(lab.counts))
    options: Any = {**settings, "select": select}
    theirs = DSPAMethod("control", lab.dspa, lab.map, options)
    prompts = [lab.dspa.render(prompt) for prompt in lab.prompts(3)]
    ids = []
    for method in (own, theirs):
        with method.steering(prompts) as log:
            ids.append(
                lab.hf.generate(
                    **padded(lab, [prompt.ids.tolist() for prompt in prompts]), max_new_tokens=3,
                    do_sample=False,
                )
            )  # fmt: skip
        assert len({tuple(plan.latents) for plan in log.plans}) == 1
    assert torch.equal(*ids)


def test_a_score_that_is_not_kept_cannot_be_planned(lab: Lab) -> None:
    fitted = fit_global_difference(lab.dspa, lab.counts, keep=2)
    assert len(fitted.values) <= 4
    assert fitted.provenance["baseline"] == "global difference"
    own = one_for_all("global", lab.dspa, fitted, {"mode": "both"})
    plan = lab.dspa.plan(fitted, lab.prompts(1)[0], **own.options)
    assert set(plan.latents) <= set(fitted.columns.tolist())


def test_how_latents_vote_is_refused_where_none_does(lab: Lab) -> None:
    fitted = fit_global_difference(lab.dspa, lab.counts)
    own: Any = one_for_all("global", lab.dspa, fitted)
    unused: Any = {
        "prompt_rule": "gated",
        "k_prompt": None,
        "gate": own.options["gate"],
        "alpha": 0.5,
    }
    with pytest.raises(SteeringError) as refused:
        one_for_all("global", lab.dspa, fitted, unused)
    assert str(refused.value) == (
        "one_for_all was given prompt_rule and gate, by which the latents of a prompt vote, and "
        "its scores are the same for every prompt; leave that out"
    )


def test_a_random_map_has_the_density_and_the_values_of_dspas(lab: Lab) -> None:
    drawn = fit_random_map(lab.dspa, lab.map, seed=3)
    assert sorted(drawn.values.tolist()) == sorted(lab.map.values.tolist())
    assert not torch.equal(drawn.values, lab.map.values)  # dealt out anew
    assert sorted(drawn.indptr.diff().tolist()) == sorted(lab.map.indptr.diff().tolist())
    assert not torch.equal(drawn.to_dense(), lab.map.to_dense())
    assert torch.equal(drawn.to_dense(), fit_random_map(lab.dspa, lab.map, seed=3).to_dense())
    assert not torch.equal(drawn.to_dense(), fit_random_map(lab.dspa, lab.map, seed=4).to_dense())
    fitted = fit_random_map(lab.dspa, lab.counts, percentile=50)
    assert len(fitted.values) == len(lab.counts.fit(percentile=50).values)
    assert fitted.provenance["baseline"] == "random map"


def test_settings_out_of_range_are_refused_when_fitted(lab: Lab) -> None:
    with pytest.raises(SteeringError, match="alpha is nan, and must be a finite number"):
        fit_static_sae(lab.dspa, lab.counts, scale=float("nan"))
    with pytest.raises(SteeringError, match="k_diff is 0, and must be a whole number"):
        fit_static_sae(lab.dspa, lab.counts, k_diff=0)
    with pytest.raises(SteeringError, match="keep is -3; expected a whole number"):
        fit_global_difference(lab.dspa, lab.counts, keep=-3)
    with pytest.raises(SteeringError, match="seed is -1; expected a whole number of at least 0"):
        fit_random_map(lab.dspa, lab.map, seed=-1)


def test_options_of_what_was_fitted_already_are_refused(lab: Lab) -> None:
    with pytest.raises(SteeringError, match="token_budget came with counts, which were taken"):
        fit_static_sae(lab.dspa, lab.counts, token_budget=64)
    with pytest.raises(SteeringError, match="percentile came with a map, which is fitted already"):
        fit_random_map(lab.dspa, lab.map, percentile=50)


def test_an_empty_map_stays_empty(lab: Lab) -> None:
    empty = ConditionalDifferenceMap.from_dense(np.zeros((4, 3)))
    assert not len(fit_random_map(lab.dspa, empty).values)


def test_a_latent_baseline_is_matched_in_strength_like_any_control(lab: Lab) -> None:
    codes = encode(lab.dspa, lab.triples[:4])
    static = one_for_all("static", lab.dspa, fit_static_sae(lab.dspa, lab.counts))
    target = DSPAMethod("map", lab.dspa, lab.map, {"alpha": 0.3, "k_diff": 4})
    matched, match = calibrate(codes, static, target)
    assert matched.options.get("alpha") == match.alpha
    assert match.share <= 1.1 * match.wanted_share


ELSEWHERE = """
import torch
assert 'dspa_nn.graph' in str(type(sent[0]).__module__), type(sent[0])
for one in sent:
    assert callable(one.apply), one
print(sorted(type(one).__name__ for one in sent))
"""


@pytest.mark.slow
def test_methods_travel_without_the_toolkit(lab: Lab, tmp_path: Path) -> None:
    family = lab.hf.config._name_or_path.removeprefix("tiny-")
    vector = fit_caa(lab.dspa, zoo.taken(family, lab.bos))
    static = one_for_all("static", lab.dspa, fit_static_sae(lab.dspa, lab.counts))
    done = run_elsewhere(ELSEWHERE, [zoo.method(lab, vector), static], tmp_path)
    assert done.stdout.strip() == "['PortableMethod', 'PortableVector']", done.stderr
