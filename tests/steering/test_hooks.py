"""`attach`: its life as a context manager, `pipeline`, single forwards, and what it refuses.

That it steers as nnsight and the oracle do is shown in test_parity and test_generation_modes.
"""

import re
from typing import Any

import pytest
import torch
import transformers

from dspa_nn import MapError, SteeringError
from dspa_nn.prompts import padded
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, Lab, by_oracle


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def generate(lab: Lab, prompt: Any, **changes: Any) -> torch.Tensor:
    ids = torch.tensor([lab.ids(prompt)])
    call = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "do_sample": False}
    return lab.hf.generate(ids, **(call | changes))


def test_the_model_is_as_it_was_afterwards(lab: Lab) -> None:
    before = generate(lab, "sun moon")
    counts = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lab.hf.modules()]
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS):
        steered = generate(lab, "sun moon")
    assert not torch.equal(before, steered)
    assert torch.equal(generate(lab, "sun moon"), before)
    assert "generate" not in vars(lab.hf)
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lab.hf.modules()]
    assert after == counts


def test_it_leaves_nothing_behind_after_an_error(lab: Lab) -> None:
    before = generate(lab, "sun moon")

    class Broken(transformers.LogitsProcessor):
        def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mine")

    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as steering:
        with pytest.raises(RuntimeError, match="mine"):
            generate(lab, "sun", logits_processor=transformers.LogitsProcessorList([Broken()]))
        steered = generate(lab, "sun moon")
    assert torch.equal(steered, by_oracle(lab, [lab.ids("sun moon")], max_new_tokens=5).ids)
    assert len(steering.logs) == 2
    assert torch.equal(generate(lab, "sun moon"), before)


def test_one_log_a_run(lab: Lab) -> None:
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as steering:
        for prompt in lab.prompts(3):
            generate(lab, prompt)
    assert [len(log.plans) for log in steering.logs] == [1, 1, 1]
    plans = [
        lab.dspa.plan(lab.map, own, k_prompt=8, k_diff=6, mode="both") for own in lab.prompts(3)
    ]
    assert [log.plans[0].latents for log in steering.logs] == [own.latents for own in plans]


def test_a_pipeline_is_steered(lab: Lab) -> None:
    pipe = transformers.pipeline("text-generation", model=lab.hf, tokenizer=lab.tok)
    prompt = lab.prompts(1)[0]
    call = {"max_new_tokens": 5, "do_sample": False, "return_tensors": True}
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as steering:
        found = pipe(prompt, **call)
    wanted = by_oracle(lab, [lab.ids(prompt)], max_new_tokens=5).ids[0]
    assert found[0]["generated_token_ids"] == wanted.tolist()
    assert steering.logs[0].total


def test_the_nnsight_model_may_be_given_in_its_place(lab: Lab) -> None:
    with lab.dspa.attach(lab.nn, lab.map, **SETTINGS):
        got = generate(lab, "sun moon")
    assert torch.equal(got, by_oracle(lab, [lab.ids("sun moon")], max_new_tokens=5).ids)


def test_prompt_and_prompt_length_may_change_between_runs(lab: Lab) -> None:
    chats = steer_zoo.lab("qwen3", "none", chat=True)
    with torch.no_grad(), chats.dspa.attach(chats.hf, chats.map, **SETTINGS) as steering:
        for messages in chats.prompts(2, chat=True):
            steering.prompt = chats.dspa.render(messages)
            chats.hf(steering.prompt.ids.unsqueeze(0))
        steering.prompt, steering.prompt_length = None, 3
        steer_zoo.quiet(chats.hf, torch.tensor([chats.ids("sun moon")]))
    counted = [log.plans[0].counted_tokens for log in steering.logs]
    own = [
        sum(steer_zoo.prompt_ids(chats.tok, "none", messages)[1])
        for messages in chats.prompts(2, chat=True)
    ]
    assert counted == [*own, 3]


def test_attaching_twice_is_refused(lab: Lab) -> None:
    sentence = "this model is steered by another attach already; leave that context first"
    with lab.dspa.attach(lab.hf, lab.map):
        second = lab.dspa.attach(lab.hf, lab.map)
        with pytest.raises(SteeringError, match=sentence):
            second.__enter__()
    assert "generate" not in vars(lab.hf)


def test_another_model_and_another_map_are_refused(lab: Lab) -> None:
    with pytest.raises(SteeringError, match=r"attach was given a model of 6 layers of width 32, a"):
        lab.dspa.attach(tiny.model("llama", num_hidden_layers=6), lab.map)
    other = steer_zoo.lab("qwen3", "none", chat=True).map
    with pytest.raises(MapError, match=r"fitted with model tiny-qwen3, but it is used with model"):
        lab.dspa.attach(lab.hf, other)


def test_calls_that_hide_the_prompt_are_refused(lab: Lab) -> None:
    ids = torch.tensor([lab.ids("sun")])
    embedded = lab.hf.get_input_embeddings()(ids)
    with lab.dspa.attach(lab.hf, lab.map):
        with pytest.raises(SteeringError, match="generate was called without token ids; pass inpu"):
            lab.hf.generate(inputs_embeds=embedded, max_new_tokens=2)
        with pytest.raises(SteeringError, match="the model was called without token ids; pass inp"):
            lab.hf(inputs_embeds=embedded)
        with pytest.raises(SteeringError, match="without attention_mask=, which alone says what i"):
            lab.hf.generate(ids.repeat(2, 1), max_new_tokens=2)
        with pytest.raises(SteeringError, match="give prompt_length="):
            lab.hf(ids)
        with pytest.raises(SteeringError, match=r"set tokenizer.padding_side = 'left'"):
            lab.hf.generate(
                **steer_zoo.padded(lab, [lab.ids("sun"), lab.ids("moon")], "right"),
                max_new_tokens=2,
            )


@pytest.mark.parametrize("generating", [True, False])
def test_ids_and_masks_of_another_shape_are_refused(lab: Lab, generating: bool) -> None:
    ids = torch.tensor([lab.ids("sun")])
    said = {
        "the model was called with torch.int64 of shape [4], and takes ids [rows, tokens]": (
            ids[0],
            None,
        ),
        "called with torch.float32 of shape [1, 4]": (ids.float(), None),
        "the attention mask is [1, 2] and the ids are [1, 4]; pass both as one": (ids, ids[:, :2]),
        "the attention mask is list and the ids are [1, 4]": (ids, [[1, 1, 1, 1]]),
    }
    for text, (given, mask) in said.items():
        with lab.dspa.attach(lab.hf, lab.map, positions="all"):
            run = lab.hf.generate if generating else lab.hf
            with pytest.raises(SteeringError, match=re.escape(text)):
                run(given, attention_mask=mask)


def test_a_mask_that_is_given_by_its_place_is_seen(lab: Lab) -> None:
    """Padding is known from the mask alone, however that is handed over."""
    ids = padded([torch.tensor(lab.ids(own)) for own in lab.prompts(2)], "left")
    assert not ids["attention_mask"].all()
    called: list[Any] = []
    with torch.no_grad(), lab.dspa.attach(lab.hf, lab.map, positions="all", **SETTINGS) as steering:
        called.append(lab.hf(**ids).logits)
        called.append(lab.hf(ids["input_ids"], ids["attention_mask"]).logits)
    assert torch.equal(*called)
    assert list(steering.logs[0]) == list(steering.logs[1])
    assert steering.logs[0].total
