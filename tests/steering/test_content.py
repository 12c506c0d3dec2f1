"""Chat prompts that arrive without `prompt=`: their content is found, and rows find their own."""

import warnings
from typing import Any

import pytest
import torch
import transformers

from dspa_nn import DSPAWarning, SteeringError
from tests import steer_zoo
from tests.steer_zoo import SETTINGS, Lab, by_hooks, by_nnsight

STYLES = (("qwen3", "none"), ("llama", "add"), ("gemma2", "markup"))
CALL = {"max_new_tokens": 4, "do_sample": False}


@pytest.fixture(scope="module", params=STYLES, ids=lambda style: style[1])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param, chat=True)


@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
def test_a_batch_without_prompt_is_planned_as_with_it(lab: Lab, way: Any) -> None:
    messages = lab.prompts(4, chat=True)  # padded on the left, some with system and turns
    rows = [lab.ids(prompt) for prompt in messages]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DSPAWarning)
        warnings.filterwarnings("ignore", "the residual stream of rows")
        found, told = way(lab, rows), way(lab, rows, prompt=messages)
    assert torch.equal(found.ids, told.ids)
    assert torch.equal(found.log.prompt_counts, told.log.prompt_counts)
    assert [plan.counted_tokens for plan in found.log.plans] == [
        plan.counted_tokens for plan in told.log.plans
    ]


@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
def test_a_row_that_is_no_rendering_is_warned_of_alone(lab: Lab, way: Any) -> None:
    known, other = (lab.ids(prompt) for prompt in lab.prompts(2, chat=True))
    wanted = way(lab, [known]).log.plans[0].counted_tokens
    with pytest.warns(DSPAWarning, match="template markup"):
        log = way(lab, [known, other[:-3]]).log
    assert log.plans[0].counted_tokens == wanted


def test_a_single_forward_reads_content_up_to_the_prompts_length(lab: Lab) -> None:
    prompt = lab.dspa.render(lab.prompts(1, chat=True)[0], "sun moon")
    with torch.no_grad(), lab.nn.trace(prompt.ids):
        told = lab.dspa.apply(lab.map, prompt=prompt, **SETTINGS)
    with torch.no_grad(), lab.nn.trace(prompt.ids):
        found = lab.dspa.apply(lab.map, prompt_length=prompt.prompt_length, **SETTINGS)
    assert torch.equal(found.prompt_counts, told.prompt_counts)


def pipeline(lab: Lab) -> Any:
    return transformers.pipeline("text-generation", model=lab.hf, tokenizer=lab.tok)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_pipeline_finds_its_content(lab: Lab, batch_size: int) -> None:
    messages = [[dict(turn) for turn in chat] for chat in lab.prompts(3, chat=True)]
    with warnings.catch_warnings(), lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as steering:
        warnings.simplefilter("error", DSPAWarning)
        warnings.filterwarnings("ignore", "the residual stream of rows")
        pipeline(lab)(messages, batch_size=batch_size, **CALL)
    plans = [plan for log in steering.logs for plan in log.plans]
    wanted = [sum(steer_zoo.prompt_ids(lab.tok, lab.bos, chat)[1]) for chat in messages]
    assert [plan.counted_tokens for plan in plans] == wanted


@pytest.mark.parametrize("batch_size", [1, 2])
def test_rows_that_a_pipeline_splits_find_their_own_prompt(batch_size: int) -> None:
    lab = steer_zoo.lab("llama", "add")
    texts = lab.prompts(3)
    with lab.dspa.attach(lab.hf, lab.map, prompt=texts, **SETTINGS) as steering:
        pipeline(lab)(texts, batch_size=batch_size, **CALL)
        plans = [plan for log in steering.logs for plan in log.plans]
        assert [plan.made.ids.tolist() for plan in plans] == [lab.ids(text) for text in texts]
        strange = torch.tensor([lab.ids("fog ice")])
        with pytest.raises(SteeringError, match="came with 3 prompts for 1 rows"):
            lab.hf.generate(strange, attention_mask=torch.ones_like(strange), **CALL)


def test_single_forwards_find_the_longest_prompt_that_they_begin_with() -> None:
    lab = steer_zoo.lab("llama", "add")
    prompts = ["sun", "sun moon", "tea"]
    row = torch.tensor([lab.ids("sun moon red")])
    with torch.no_grad(), lab.dspa.attach(lab.hf, lab.map, prompt=prompts, **SETTINGS) as steering:
        lab.hf(row)
    assert steering.plans[0].made.ids.tolist() == lab.ids("sun moon")
