"""Personas: what they ablate, that they steer as maps do, their files, and what is refused."""

import json
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn import DSPAError, FileError, MapError
from dspa_nn.audit import coverage, steered_latents
from dspa_nn.evaluation import AXES, edit_alone, margins
from dspa_nn.maps import MapSum
from dspa_nn.personas import (
    AxisEffects,
    Persona,
    dose_response,
    known_effects,
    measure_effects,
    style_candidates,
)
from dspa_nn.steering import DSPAMethod, Plan
from tests import eval_zoo

weights = st.dictionaries(
    st.sampled_from(list(AXES)), st.floats(-2, 2).filter(lambda x: abs(x) > 0.1), min_size=1
)


@given(wanted=weights, latents=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_it_ablates_the_latents_of_the_largest_gains(wanted: Any, latents: int) -> None:
    effects = eval_zoo.effects()
    parts = [w * effects.effect[:, effects.axes.index(axis)] for axis, w in wanted.items()]
    gains = np.sum(parts, axis=0)
    order = [int(j) for j in np.argsort(-gains, kind="stable") if gains[j] > 0][:latents]
    persona = Persona(wanted, effects, latents=latents)
    scores = persona.score(torch.ones(persona.shape[0]), torch.tensor(9), prompt_rule="gated")
    assert torch.nonzero(scores)[:, 0].tolist() == sorted(order)
    assert np.allclose(-scores[order].numpy(), gains[order], rtol=1e-6)
    assert persona.defaults["k_diff"] == len(order)


def test_both_ways_and_every_latent() -> None:
    effects = eval_zoo.effects()
    every = Persona({"task": 1.0}, effects, latents=None)
    assert len(every.columns) == (effects.effect[:, effects.axes.index("task")] > 0).sum()
    both = Persona({"task": 1.0}, effects, latents=3, mode="both")
    assert sorted(both.values.sign().tolist()) == [-1.0] * 3 + [1.0] * 3
    other = Persona({"task": -1.0}, effects, latents=3)
    up = {int(j) for j, v in zip(both.columns, both.values, strict=True) if v > 0}
    assert up == set(other.columns.tolist())


def test_what_is_told_of_it_names_no_prompt_latents() -> None:
    persona = Persona({"task": 1.0}, eval_zoo.effects(), latents=4)
    dspa = eval_zoo.dspa()
    plan = dspa.plan(persona, "tea sea")
    # Whether latent 0, whose row holds the scores, is active or not.
    active = copy(plan.made)
    active.counts = plan.made.counts.clone()
    active.counts[0] = 3
    for one in (plan, Plan(active), dspa.plan(persona + persona, "tea sea")):
        assert "\n  the same for every prompt: no input latent votes\n" in str(one)
        assert "<p>the same for every prompt: no input latent votes</p>" in one._repr_html_()
    told = steered_latents(persona, 3)
    assert told.prompt == []
    assert "4 ablated on the whole; for every prompt alike" in str(told)
    for alike in (persona, persona + persona):
        with pytest.raises(MapError, match="scores every prompt alike, as a persona does"):
            coverage(alike, [plan])


def run(persona: Any, prompts: list[Any], remote: Any = False, **options: Any) -> Any:
    dspa = eval_zoo.dspa()
    pad = dspa.facts.tokenizer.pad
    inputs = pad({"input_ids": [own.prompt_ids.tolist() for own in prompts]}, return_tensors="pt")
    with dspa.model.generate(inputs, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        edits = dspa.apply(persona, prompt=prompts, **options)
        ids = tracer.result.save()
    return ids, edits


def test_it_steers_in_a_batch_attached_and_packed_for_ndif() -> None:
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(one.prompt) for one in eval_zoo.triples(3, seed=6)]
    persona = Persona({"concise": 1.0, "task": -0.5}, eval_zoo.effects(), latents=12)
    ids, edits = run(persona, prompts)
    wanted = sorted(persona.columns.tolist())
    assert [sorted(plan.latents) for plan in edits.plans] == [wanted] * 3
    assert edits.total
    packed_ids, packed = run(persona, prompts, remote="local")
    assert torch.equal(packed_ids, ids)
    assert list(packed) == list(edits)
    for row, prompt in enumerate(prompts):
        with dspa.attach(eval_zoo.model(), persona, prompt=prompt) as alone:
            own = eval_zoo.model().generate(
                prompt.prompt_ids[None], max_new_tokens=4, do_sample=False
            )
        assert own[0, -4:].tolist() == ids[row, -4:].tolist()
        assert [edit.latent for edit in alone] == [e.latent for e in edits if e.row == row]


@pytest.mark.parametrize("rule", [None, "density", "gated"])
def test_it_is_added_to_maps_whatever_their_rule(rule: Any) -> None:
    dspa = eval_zoo.dspa()
    map = eval_zoo.counts(20).fit(percentile=50)
    persona = Persona({"friendly": 1.0}, eval_zoo.effects())
    both = map + 0.5 * persona
    assert isinstance(both, MapSum)
    assert f"+0.5 x persona (friendly +1), {len(persona.values)} entries" in repr(both)
    prompts = [dspa.render(one.prompt) for one in eval_zoo.triples(3, seed=6)]
    given_rule = {} if rule is None else {"prompt_rule": rule}
    plans = dspa.plan(both, prompts, **given_rule)
    for plan, one in zip(plans, dspa.plan(map, prompts, **given_rule), strict=True):
        added = plan.scores - one.scores
        assert torch.allclose(added[persona.columns.long()], 0.5 * persona.values.double())
    ids, edits = run(both, prompts, **given_rule)
    packed_ids, packed = run(both, prompts, remote="local", **given_rule)
    assert torch.equal(packed_ids, ids)
    assert list(packed) == list(edits)


def test_a_persona_of_one_latent_is_that_latent_alone() -> None:
    dspa, held_out = eval_zoo.dspa(), eval_zoo.triples(4, seed=3)
    effects = eval_zoo.effects().only([3])
    sign = float(np.sign(effects.effect[0, 0]))
    persona = Persona({"concise": sign}, effects)
    methods = [DSPAMethod("persona", dspa, persona), edit_alone(dspa, 3)]
    _, one, other = margins(dspa, held_out, methods)
    assert one.change.tolist() == other.change.tolist()


def test_files_hold_all_that_a_persona_is(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [{}, {"latents": None}, {"mode": "both", "prompt_tokens": "all"}]
    for options in cases:
        made = Persona({"concise": 1.0, "task": -0.25}, eval_zoo.effects(), **options)
        made.save(tmp_path / "one.json")
        again = Persona.load(tmp_path / "one.json")
        assert repr(again) == repr(made)
        assert again.provenance == made.provenance
        assert again.defaults == made.defaults
        assert again.prompt_tokens == made.prompt_tokens
        assert torch.equal(again.values, made.values)
    body = json.loads((tmp_path / "one.json").read_text())
    assert body["version"] == 1
    assert body["effects"]["provenance"]["output_sae_sha256"] == eval_zoo.dspa().output_sae.sha256
    eval_zoo.effects().save(tmp_path / "effects.json")
    loaded = AxisEffects.load(tmp_path / "effects.json")
    assert np.array_equal(loaded.effect, eval_zoo.effects().effect)


def test_effects_are_measured_and_a_response_is_paired(tmp_path: Path) -> None:
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(one.prompt) for one in eval_zoo.triples(4, seed=8)]
    effects = measure_effects(dspa, prompts, axes=["task"], max_new_tokens=4, folder=tmp_path)
    assert effects.effect.shape == (len(effects.latents), 1)
    assert (effects.error[effects.fires == 0] == 0).all()
    persona = Persona({"task": float(np.sign(effects.effect.sum()) or 1)}, effects, latents=2)
    none, full = dose_response(
        dspa, prompts, [persona], [{"alpha": 0.0}, {"alpha": 1.0}], max_new_tokens=4
    )
    assert none.changed == none.utility.mean == none.edits == none.looped.mean == none.share == 0
    assert full.edits > 0
    assert 0 < full.share < 1
    assert full.axes["task"].n == 4
    assert "of answers changed" in str(full)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"frendly": 1.0}, r"axis is 'frendly'; expected one of .*did you mean 'friendly'"),
        ({"friendly": float("nan")}, "the weight of 'friendly' is nan; expected a finite number."),
        ({"friendly": float("inf")}, "the weight of 'friendly' is inf; expected a finite number."),
        ({"friendly": 1e-300}, "the weight of 'friendly' is 1e-300, and scores of that size"),
        ({"friendly": -1e300}, r"the weight of 'friendly' is -1e\+300, and scores of that size"),
        ({"friendly": 0}, "every weight of the persona is 0"),
        ({}, "the weights are {}; expected axes of style and their weights"),
    ],
)
def test_weights_that_say_nothing_are_refused(wanted: Any, sentence: str) -> None:
    with pytest.raises(MapError, match=sentence) as caught:
        Persona(wanted, eval_zoo.effects())
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_what_are_no_effects_and_no_prompts_is_refused() -> None:
    for wrong in (None, {"axes": ["direct"]}):
        given: Any = wrong
        with pytest.raises(MapError, match=r"effects is .*; expected AxisEffects"):
            Persona({"direct": 1.0}, given)
    with pytest.raises(DSPAError, match="one text came for prompts; give a list of them"):
        measure_effects(eval_zoo.dspa(), "sun and moon")


@pytest.mark.usefixtures("unchecked")
def test_doses_are_of_prompts_and_personas() -> None:
    dspa, effects = eval_zoo.dspa(), eval_zoo.effects()
    good: dict[str, Any] = {
        "prompts": [dspa.render("sun")],
        "personas": [Persona({"direct": 1.0}, effects)],
        "doses": [{"alpha": 0.5}],
    }
    wrong: list[dict[str, Any]] = [
        {"prompts": ["sun"]}, {"personas": good["personas"][0]}, {"doses": {"alpha": 0.5}},
        {"personas": [eval_zoo.counts().fit(percentile=50)]},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(DSPAError, match=rf"^{next(iter(one))} is .*; expected a list"):
            dose_response(dspa, **{**good, **one})
    for name in good:
        with pytest.raises(DSPAError, match=f"^{name} is empty; give one at least"):
            dose_response(dspa, **{**good, name: []})


def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    dspa, effects = eval_zoo.dspa(), eval_zoo.effects()
    stuck = replace(effects, effect=np.zeros_like(effects.effect))
    with pytest.raises(MapError, match="no latent of 40 that were measured moves answers towards"):
        Persona({"direct": 1.0}, stuck)
    with pytest.raises(MapError, match="latents is 0; expected a whole number of at least 1"):
        Persona({"direct": 1.0}, effects, latents=0)
    for call in (lambda: effects.gains({"frendly": 1.0}), lambda: effects.furthest("frendly")):
        with pytest.raises(MapError, match=r"axis is 'frendly'; .*did you mean 'friendly'"):
            call()
    with pytest.raises(DSPAError, match="output latent 40 came, and the SAE has 40"):
        style_candidates(dspa, 1, axes=["direct"], among=[40])
    with pytest.raises(MapError, match="no effects on style are known for the output SAE"):
        known_effects(dspa)
    with pytest.raises(Exception, match="2 prompts came to measure effects on; give three"):
        measure_effects(dspa, ["sun", "moon"])
    other = {**effects.provenance, "model_id": "somebody/else"}
    foreign = Persona({"direct": 1.0}, replace(effects, provenance=other))
    with pytest.raises(MapError, match="was fitted with model somebody/else, but it is used with"):
        dspa.plan(foreign, "sun")
    with pytest.raises(MapError, match="somebody/else"):
        _ = eval_zoo.counts(20).fit(percentile=50) + foreign

    with pytest.raises(FileError, match="there is no file"):
        Persona.load(tmp_path / "none.json")
    effects.save(tmp_path / "effects.json")
    with pytest.raises(FileError, match=r"holds dspa_nn\.axis_effects; expected dspa_nn\.persona"):
        Persona.load(tmp_path / "effects.json")
    path = tmp_path / "persona.json"
    Persona({"direct": 1.0}, effects).save(path)
    body = json.loads(path.read_text())
    for changed, sentence in (
        ({"version": 9}, "is of version 9 of dspa_nn.persona, and this package reads version 1"),
        ({"effects": {}}, r"is damaged \(it lacks 'axes'\); save it again"),
        (
            {"axis_weights": {"direct": float("nan")}},
            r"cannot be read as JSON \(it holds NaN, where a finite number belongs\)",
        ),
        (
            {"effects": {**body["effects"], "spread": [float("inf")]}},
            "holds Infinity, where a finite",
        ),
        ({"effects": {**body["effects"], "effect": [["x"]]}}, r"is damaged \(could not convert"),
        ({"effects": {**body["effects"], "effect": [[None] * 8]}}, r"its effect holds what is no"),
        (
            {"effects": {**body["effects"], "latents": [3, 3]}},
            r"its latents are no ascending whole numbers from 0 to \d+\); save it again",
        ),
        ({"effects": {**body["effects"], "latents": [2.5]}}, "are no ascending whole numbers"),
        ({"effects": {**body["effects"], "latents": [10**6]}}, "are no ascending whole numbers"),
    ):
        path.write_text(json.dumps(body | changed))
        with pytest.raises(FileError, match=sentence):
            Persona.load(path)
    for weight, shown in (("x", "'x'"), (True, "True"), (None, "None")):
        path.write_text(json.dumps(body | {"axis_weights": {"direct": weight}}))
        with pytest.raises(MapError, match=f"the weight of 'direct' is {shown}; expected a finite"):
            Persona.load(path)
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(FileError, match="cannot be read as JSON"):
            Persona.load(path)
