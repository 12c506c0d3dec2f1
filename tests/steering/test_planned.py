"""`apply(plan)`: a run whose plans were made before steers as the run that makes them itself."""

from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn import SteeringError
from dspa_nn.prompts import padded
from dspa_nn.steering import planning
from tests import steer_zoo
from tests.steer_zoo import SETTINGS, STEPS, Lab

PLANNED: dict[str, Any] = {name: value for name, value in SETTINGS.items() if name != "positions"}


@pytest.fixture(scope="module", params=[("llama", "add"), ("gemma2", "add"), ("qwen3", "none")])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param)


@pytest.fixture(scope="module")
def llama() -> Lab:
    return steer_zoo.lab("llama", "add")


def generated(lab: Lab, inputs: Any, map: Any, **options: Any) -> tuple[torch.Tensor, Any]:
    with lab.nn.generate(inputs, max_new_tokens=STEPS, do_sample=False) as tracer:
        edits = lab.dspa.apply(map, **options)
        ids = tracer.result.save()
    return ids, edits


def same(one: Any, other: Any) -> bool:
    return list(one) == list(other) and str(one) == str(other) and one.total > 0


def test_one_prompt(lab: Lab) -> None:
    prompt = lab.prompts(1)[0]
    plan = lab.dspa.plan(lab.map, prompt, **PLANNED)
    ids, edits = generated(lab, prompt, plan)
    wanted, whole = generated(lab, prompt, lab.map, **SETTINGS)
    assert torch.equal(ids, wanted)
    assert same(edits, whole)
    assert edits.plans[0].prompt_latents == whole.plans[0].prompt_latents
    assert torch.equal(edits.prompt_counts, whole.prompt_counts)


def test_a_batch_is_planned_as_it_is_generated(lab: Lab) -> None:
    prompts = lab.prompts(3)
    plans = lab.dspa.plan(lab.map, prompts, **PLANNED)
    assert [type(own) for own in plans] == [dn.Plan] * 3
    inputs = padded([torch.tensor(lab.ids(own)) for own in prompts], "left")
    found, edits = generated(lab, inputs, plans)
    wanted, whole = generated(lab, inputs, lab.map, **SETTINGS)
    assert torch.equal(found, wanted)
    assert same(edits, whole)


def test_a_plan_from_an_earlier_log(llama: Lab) -> None:
    prompt = llama.prompts(1)[0]
    wanted, whole = generated(llama, prompt, llama.map, **SETTINGS)
    ids, edits = generated(llama, prompt, whole.plans[0])
    assert torch.equal(ids, wanted)
    assert same(edits, whole)


def test_beams_and_returned_sequences_share_a_plan(llama: Lab) -> None:
    prompt = llama.prompts(1)[0]
    plan = llama.dspa.plan(llama.map, prompt, **PLANNED)
    found = []
    for map, options in ((plan, {}), (llama.map, SETTINGS)):
        with llama.nn.generate(
            prompt, max_new_tokens=STEPS, do_sample=False, num_beams=3, num_return_sequences=2
        ) as tracer:
            llama.dspa.apply(map, **options)
            found.append(tracer.result.save())
    assert torch.equal(*found)


def test_in_trace_a_plan_says_where_the_prompt_ends(llama: Lab) -> None:
    prompt = llama.dspa.render(llama.prompts(1)[0])
    plan = llama.dspa.plan(llama.map, prompt, **PLANNED)
    whole = torch.cat([prompt.ids, torch.tensor([20, 30, 40])]).unsqueeze(0)
    logits = []
    for map, options in ((plan, {}), (llama.map, {**SETTINGS, "prompt": prompt})):
        with llama.nn.trace(whole):
            edits = llama.dspa.apply(map, **options)
            logits.append(llama.nn.output.logits.save())
        assert edits.tokens == 4
    assert torch.equal(*logits)


def test_the_input_layer_is_not_read(llama: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = llama.prompts(1)[0]
    plan = llama.dspa.plan(llama.map, prompt, **PLANNED)

    def never(_: Any) -> None:
        raise AssertionError("the input SAE was used")

    monkeypatch.setattr(llama.dspa.input_sae.encoder, "encode", never)
    _, edits = generated(llama, prompt, plan)
    assert edits.total > 0


def test_hooks_take_plans(llama: Lab) -> None:
    prompt = llama.prompts(1)[0]
    plan = llama.dspa.plan(llama.map, prompt, **PLANNED)
    ids = torch.tensor([llama.ids(prompt)])
    hf = llama.nn._module
    with llama.dspa.attach(hf, plan) as steering:
        found = hf.generate(ids, max_new_tokens=STEPS, do_sample=False)
    wanted, whole = generated(llama, prompt, llama.map, **SETTINGS)
    assert torch.equal(found, wanted)
    assert same(steering.logs[-1], whole)


def test_alpha_may_still_be_chosen(llama: Lab) -> None:
    prompt = llama.prompts(1)[0]
    plan = llama.dspa.plan(llama.map, prompt, **PLANNED)
    _, edits = generated(llama, prompt, plan, alpha=0.125)
    _, whole = generated(llama, prompt, llama.map, **{**SETTINGS, "alpha": 0.125})
    assert same(edits, whole)


def refused(lab: Lab, inputs: Any, given: Any, **options: Any) -> str:
    with pytest.raises((SteeringError, dn.MapError)) as raised:
        generated(lab, inputs, given, **options)
    return str(raised.value)


def test_what_is_refused(llama: Lab) -> None:
    one, other = llama.prompts(2)
    plan = llama.dspa.plan(llama.map, one, **PLANNED)
    assert refused(llama, other, plan) == (
        "row 0 does not hold the tokens of its plan; pass to the model the prompt that dspa.plan "
        "was given"
    )
    assert refused(llama, one, [plan, plan]).startswith("plan came with 2 prompts for 1 rows")
    assert refused(llama, one, plan, k_diff=3) == (
        "k_diff= came with a plan, which is already made; give it to dspa.plan instead (alpha, "
        "positions and edit may be given here)"
    )
    assert "never= came with a plan" in refused(llama, one, plan, never=[1])
    assert "prompt= came with a plan" in refused(llama, one, plan, prompt=one)
    assert "alpha is -1" in refused(llama, one, plan, alpha=-1)
    assert "a list came for the map; pass what fit or" in refused(llama, one, [])
    with pytest.raises(SteeringError, match="plan was given a plan for its map"):
        planning.plan(llama.dspa, plan, one, {})
    plan.made.options["origin"] = {**plan.made.options["origin"], "input_layer": 0}
    assert "fitted with input layer 0, but it is used with input layer 1" in refused(
        llama, one, plan
    )


def test_planning_an_empty_list_is_refused(llama: Lab) -> None:
    with pytest.raises(dn.SteeringError, match="plan was given an empty list of prompts; pass at"):
        llama.dspa.plan(llama.map, [])


@pytest.mark.parametrize("rule", ["density", "gated", "centred"])
def test_a_prompt_without_any_token_plans_nothing(rule: Any) -> None:
    """An empty string has no token at all where the tokenizer puts no BOS in front."""
    lab = steer_zoo.lab("qwen3", "none")
    settings: dict[str, Any] = {**PLANNED, "prompt_rule": rule}
    alone = lab.dspa.plan(lab.map, "", **settings)
    assert (alone.counted_tokens, alone.prompt_latents, alone.latents) == (0, [], [])
    assert str(alone).endswith("nothing would be steered")
    long, short = lab.prompts(2)
    plans = lab.dspa.plan(lab.map, [long, "", short], **settings)
    wanted = lab.dspa.plan(lab.map, [long, short], **settings)
    assert [str(own) for own in plans] == [str(wanted[0]), str(alone), str(wanted[1])]
    assert [len(plan.made.ids) for plan in plans] == [len(long), 0, len(short)]
