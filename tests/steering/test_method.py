"""`SteeringMethod`: what evaluation enters, and DSPA as its first implementation."""

import re
from typing import Any

import pytest
import torch

from dspa_nn import DSPA, SteeringError
from dspa_nn.steering import DSPAMethod, Intervention, SteeringMethod, SteeringOptions
from tests import steer_zoo
from tests.steer_zoo import SETTINGS, Lab, by_hooks


def options_of(settings: Any) -> SteeringOptions:
    return settings


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def test_dspa_steers_as_attach_does_for_as_long_as_the_context_lasts(lab: Lab) -> None:
    method = DSPAMethod("ours", lab.dspa, lab.map, options_of(SETTINGS))
    assert isinstance(method, SteeringMethod)
    assert isinstance(method, Intervention)
    prompts = [lab.dspa.render(text) for text in lab.prompts(2)]
    wanted = by_hooks(lab, [own.ids.tolist() for own in prompts])
    inputs = steer_zoo.padded(lab, [own.ids.tolist() for own in prompts])
    with method.steering(prompts) as edits:
        ids = lab.hf.generate(**inputs, max_new_tokens=steer_zoo.STEPS, do_sample=False)
    assert torch.equal(ids, wanted.ids)
    assert list(edits) == list(wanted.log)
    assert "generate" not in vars(lab.hf)


def test_it_applies_in_a_block_of_the_users(lab: Lab) -> None:
    method = DSPAMethod("ours", lab.dspa, lab.map, options_of(SETTINGS))
    prompt = lab.dspa.render(lab.prompts(1)[0])
    with lab.nn.generate(prompt.ids, max_new_tokens=3, do_sample=False):
        edits = method.apply(prompt=prompt)
    with method.steering([prompt]) as same:
        lab.hf.generate(prompt.ids[None], max_new_tokens=3, do_sample=False)
    assert list(edits) == list(same)
    assert edits.total


def test_settings_are_refused_before_anything_is_steered(lab: Lab) -> None:
    from dspa_nn import SteeringError

    with pytest.raises(SteeringError, match="alpha is -1"):
        DSPAMethod("ours", lab.dspa, lab.map, {"alpha": -1}).steering([])


def test_what_attach_yields_is_the_log_of_the_last_run(lab: Lab) -> None:
    prompts = [torch.tensor([lab.ids(text)]) for text in lab.prompts(2)]
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as edits:
        assert str(edits) == "EditLog: the model has not run yet"
        assert edits.plans == []
        for ids in prompts:
            mask = torch.ones_like(ids)
            lab.hf.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False)
    assert len(edits.logs) == 2
    assert list(edits) == list(edits.logs[-1])
    assert list(edits) != list(edits.logs[0])
    assert str(edits) == str(edits.logs[-1])
    assert edits.total == edits.logs[-1].total > 0
    edits.logs.clear()
    assert edits.total


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpa": 1}, "DSPAMethod takes no alpa (did you mean 'alpha'?)"),
        ({"mode": "abl"}, "mode is 'abl', and must be one of"),
        ({"alpha": -1}, "alpha is -1"),
        ({"only": [99]}, "only= names latent 99"),
    ],
)
def test_a_method_is_refused_when_it_is_made(lab: Lab, options: Any, sentence: str) -> None:
    with pytest.raises(SteeringError, match=re.escape(sentence)):
        DSPAMethod("wrong", lab.dspa, lab.map, options)


def test_misspelt_defaults_are_refused(lab: Lab) -> None:
    with pytest.raises(SteeringError, match=r"defaults takes no percentle \(did you mean 'percent"):
        DSPA(lab.nn, input_sae=lab.sae_in, output_sae=lab.sae_out, defaults={"percentle": 50})
