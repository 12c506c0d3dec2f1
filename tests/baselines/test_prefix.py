"""An instruction in front of the prompt: as if the prompt had been written with it."""

from typing import Any

import pytest
import torch

from dspa_nn import SteeringError
from dspa_nn.baselines import PromptPrefix, Subject
from dspa_nn.evaluation import answer, force
from tests import steer_zoo, tiny
from tests.baselines import zoo
from tests.steer_zoo import Lab, deviation

WORDS = "Be kind."


@pytest.fixture(scope="module", params=zoo.FAMILIES, ids=[family for family, _ in zoo.FAMILIES])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param)


def method(lab: Lab) -> PromptPrefix:
    return PromptPrefix("prefix", Subject(lab.dspa), WORDS)


def rendered(lab: Lab) -> list[Any]:
    chats = lab.prompts(4, chat=True)
    return [lab.dspa.render(prompt) for prompt in (*chats, *lab.prompts(2))]


def test_a_rewritten_prompt_is_what_its_messages_with_the_words_render_to(lab: Lab) -> None:
    for prompt in lab.prompts(4, chat=True):
        messages = [dict(message) for message in prompt]
        messages[0]["content"] = f"{WORDS}\n\n{messages[0]['content']}"
        wanted, got = lab.dspa.render(messages), method(lab).rewrite(lab.dspa.render(prompt))
        assert torch.equal(got.ids, wanted.ids)
        assert torch.equal(got.content, wanted.content)
        assert got.text == wanted.text
        assert got.prompt_length == wanted.prompt_length
    text = lab.prompts(1)[0]
    got = method(lab).rewrite(lab.dspa.render(text, "sun"))
    assert torch.equal(got.ids, lab.dspa.render(f"{WORDS}\n\n{text}", "sun").ids)


def test_answers_are_those_to_the_rewritten_prompts(lab: Lab) -> None:
    prompts, own = rendered(lab), method(lab)
    rewritten = [own.rewrite(prompt) for prompt in prompts]
    wanted = answer(lab.dspa, rewritten, max_new_tokens=4, batch_size=3)
    got = answer(lab.dspa, prompts, own, max_new_tokens=4, batch_size=3)
    assert [ids.tolist() for ids in got.ids] == [ids.tolist() for ids in wanted.ids]
    plain = answer(lab.dspa, prompts, max_new_tokens=4, batch_size=3)
    assert got.texts != plain.texts


def test_forced_responses_are_scored_behind_the_instruction(lab: Lab) -> None:
    own = method(lab)
    sequences = [lab.dspa.render(triple.prompt, triple.chosen) for triple in lab.triples[:5]]
    (wanted,) = force(lab.dspa, [own.rewrite(sequence) for sequence in sequences], [None])
    plain, got = force(lab.dspa, sequences, [None, own])
    assert abs(got.log_prob - wanted.log_prob).max() <= 1e-5
    assert abs(got.log_prob - plain.log_prob).max() > 1e-3
    assert (got.kl > 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_forward_keeps_the_rows_that_it_was_given(lab: Lab, side: str) -> None:
    own, prompts = method(lab), rendered(lab)[:3]
    ids, mask = tiny.pad([prompt.ids.tolist() for prompt in prompts], 9, side)
    call = {"input_ids": ids, "attention_mask": mask}
    with own.steering(prompts), torch.no_grad():
        whole = lab.hf(**call).logits
        kept = lab.hf(**call, logits_to_keep=2).logits
    assert whole.shape[:2] == ids.shape
    assert torch.equal(kept, whole[:, -2:])
    for number, prompt in enumerate(prompts):
        with torch.no_grad():
            wanted = lab.hf(own.rewrite(prompt).ids[None]).logits[0, -1]
        last = int(mask[number].nonzero()[-1])
        assert deviation(whole[number, last], wanted) <= 1e-5


def test_sequences_begin_as_the_rows_did(lab: Lab) -> None:
    prompt, own = rendered(lab)[0], method(lab)
    with own.steering([prompt]):
        several = lab.hf.generate(
            prompt.ids[None], max_new_tokens=3, num_return_sequences=2, num_beams=2
        )
        as_dict = lab.hf.generate(
            input_ids=prompt.ids[None], max_new_tokens=3, return_dict_in_generate=True
        )
    assert several.shape == (2, len(prompt.ids) + 3)
    assert torch.equal(several[:, : len(prompt.ids)], prompt.ids.expand(2, -1))
    assert torch.equal(as_dict.sequences[0, : len(prompt.ids)], prompt.ids)
    assert "generate" not in vars(lab.hf)


def test_other_rows_and_filled_caches_are_refused() -> None:
    lab = steer_zoo.lab("llama", "markup")
    prompt, own = rendered(lab)[0], method(lab)
    with own.steering([prompt]):
        with pytest.raises(SteeringError, match="called with 2 rows for 1 prompts"):
            lab.hf(prompt.ids[None].repeat(2, 1))
        with pytest.raises(SteeringError, match="row 0 does not hold the tokens of its prompt"):
            lab.hf.generate(prompt.ids[None, 1:], max_new_tokens=1)
        with pytest.raises(SteeringError, match="without token ids"):
            lab.hf.generate(max_new_tokens=1)
        with pytest.raises(SteeringError, match="prompt lookup takes drafted tokens back"):
            lab.hf.generate(prompt.ids[None], prompt_lookup_num_tokens=2)
    with pytest.raises(SteeringError, match="the instruction is empty; give some words"):
        PromptPrefix("prefix", Subject(lab.dspa), " ")
