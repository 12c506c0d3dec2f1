"""Copies of the toolkit's objects are such objects; only nnsight's pickler gets what stands in."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn.graph.stand_ins import PortableDSPA
from dspa_nn.models import torch_module
from tests import steer_zoo
from tests.steer_zoo import SETTINGS, Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def pickled(item: Any) -> Any:
    return pickle.loads(pickle.dumps(item))


WAYS: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, pickled]


@pytest.mark.parametrize("again", WAYS, ids=["copy", "deepcopy", "pickle"])
def test_what_is_copied_is_the_object_itself(lab: Lab, again: Callable[[Any], Any]) -> None:
    prompt = lab.dspa.render("sun moon")
    plan = lab.dspa.plan(lab.map, prompt, **SETTINGS)
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as edits:
        lab.hf.generate(prompt.ids[None], max_new_tokens=3, do_sample=False)
    same_map, same_prompt, same_plan, same_log = map(again, (lab.map, prompt, plan, edits.logs[0]))
    assert type(same_map) is dn.ConditionalDifferenceMap
    assert torch.equal(same_map.to_dense(), lab.map.to_dense())
    assert same_map.provenance == lab.map.provenance
    assert torch.equal(same_prompt.ids, prompt.ids)
    assert same_prompt.text == prompt.text
    assert type(same_plan) is dn.Plan
    assert str(same_plan) == str(plan)
    assert type(same_log) is dn.EditLog
    assert list(same_log) == list(edits.logs[0])
    # Hooks cannot be copied; what is left of an attachment is its last run's log.
    assert type(again(edits)) is dn.EditLog
    assert list(again(edits)) == list(edits)


@pytest.mark.parametrize("again", WAYS[:2], ids=["copy", "deepcopy"])
def test_the_copy_of_a_dspa_steers_as_it_does(lab: Lab, again: Callable[[Any], Any]) -> None:
    other = again(lab.dspa)
    assert type(other) is dn.DSPA
    assert other.provenance() == lab.dspa.provenance()
    assert other.model is lab.dspa.model
    wanted = lab.dspa.plan(lab.map, "sun moon", **SETTINGS)
    assert other.plan(lab.map, "sun moon", **SETTINGS).latents == wanted.latents
    ids = torch.tensor([lab.ids("sun moon")])
    for dspa in (lab.dspa, other):
        with dspa.model.generate(ids, max_new_tokens=3, do_sample=False) as tracer:
            edits = dspa.apply(lab.map, **SETTINGS)
            result = tracer.result.save()
        assert edits.total
        if dspa is lab.dspa:
            first = result, list(edits)
    assert torch.equal(result, first[0])
    assert list(edits) == first[1]


def test_a_dspa_that_has_run_is_pickled_with_its_model_and_without_hooks() -> None:
    lab = steer_zoo.lab("llama", "add")
    ids = torch.tensor([lab.ids("sun moon")])
    lab.hf(ids, output_hidden_states=True)  # transformers leaves local functions on the layers
    wanted = lab.dspa.plan(lab.map, "sun moon", **SETTINGS)
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS):
        first = lab.hf.generate(ids, max_new_tokens=3, do_sample=False)
        other = pickled(lab.dspa)  # not what attach does to the model
    assert type(other) is dn.DSPA
    assert other.model is not lab.dspa.model
    assert other.provenance() == lab.dspa.provenance()
    assert str(other.plan(lab.map, "sun moon", **SETTINGS)) == str(wanted)
    with other.model.generate(ids, max_new_tokens=3, do_sample=False) as tracer:
        edits = other.apply(lab.map, **SETTINGS)
        result = tracer.result.save()
    assert edits.total
    assert torch.equal(result, first)
    hidden = torch_module(other.model)(ids, output_hidden_states=True).hidden_states
    assert len(hidden) == 5


def test_a_dspa_without_weights_is_not_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    dspa = copy.copy(steer_zoo.lab("llama", "add").dspa)
    monkeypatch.setattr(dspa, "model", torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(dn.SteeringError, match=r"^the model tiny-llama is not loaded, and a DSPA"):
        pickle.dumps(dspa)


@pytest.mark.slow
def test_a_subclass_is_sent_as_its_parent_is(lab: Lab) -> None:
    from nnsight.intervention.serialization import dumps, loads

    class Mine(dn.DSPA):
        pass

    mine = copy.copy(lab.dspa)
    mine.__class__ = Mine
    for dspa in (lab.dspa, mine):
        there = loads(dumps(dspa))
        assert type(there) is PortableDSPA
        assert there.identity == dspa.provenance()
    assert type(pickle.load(io.BytesIO(pickle.dumps(lab.map)))) is dn.ConditionalDifferenceMap
