import numpy as np
import pytest
import torch

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import Answers, answer, branching_factor, distinct, surprise
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo


def prompts(count: int = 5):
    return [eval_zoo.dspa().render(own.prompt) for own in eval_zoo.triples(count)]


def test_batched_answers_are_those_of_the_model_alone():
    found = answer(eval_zoo.dspa(), prompts(), max_new_tokens=6, batch_size=3)
    for ids, prompt in zip(found.ids, prompts(), strict=True):
        with torch.no_grad():
            alone = eval_zoo.model().generate(
                prompt.prompt_ids[None], max_new_tokens=6, do_sample=False
            )
        alone = alone[0, prompt.prompt_length :].tolist()
        end = eval_zoo.dspa().facts.eos_ids[0]
        assert ids.tolist() == (alone[: alone.index(end)] if end in alone else alone)
    assert found.logs == []


def test_steered_answers_differ_and_say_what_was_edited():
    map = eval_zoo.counts().fit(percentile=50)
    plain = answer(eval_zoo.dspa(), prompts(), max_new_tokens=6)
    steered = answer(
        eval_zoo.dspa(),
        prompts(),
        DSPAMethod("", eval_zoo.dspa(), map, eval_zoo.STEER),
        max_new_tokens=6,
    )
    assert steered.texts != plain.texts
    assert sum(steered.by_latent().values()) == sum(log.total for log in steered.logs) > 0


def test_surprise_is_the_unsteered_models_loss_on_the_answer():
    found = answer(eval_zoo.dspa(), prompts(2), max_new_tokens=5)
    found.ids.append(torch.zeros(0, dtype=torch.int64))  # an answer that ended at once
    values = surprise(eval_zoo.dspa(), prompts(3), found)
    assert np.isnan(values[2])
    for value, ids, prompt in zip(values, found.ids[:2], prompts(2), strict=False):
        whole = torch.cat([prompt.prompt_ids, ids])
        labels = torch.cat([torch.full_like(prompt.prompt_ids, -100), ids])
        with torch.no_grad():
            loss = eval_zoo.model()(whole[None], labels=labels[None]).loss
        assert value == pytest.approx(float(loss), abs=2e-5)


def test_no_answer_at_all_has_no_surprise():
    none = Answers(["", ""], [torch.zeros(0, dtype=torch.int64)] * 2, [])
    assert np.isnan(surprise(eval_zoo.dspa(), prompts(2), none)).all()


@pytest.mark.parametrize("asked", [1, 3])
def test_answers_to_other_prompts_have_no_surprise(asked):
    two = Answers(["a", "b"], [torch.ones(2, dtype=torch.int64)] * 2, [])
    with pytest.raises(EvaluationError, match=rf"^{asked} prompts and 2 answers came; "):
        surprise(eval_zoo.dspa(), prompts(asked), two)


@pytest.mark.parametrize("temperature", [-0.5, 1e-320, float("nan"), float("inf")])
def test_a_temperature_that_nothing_can_be_drawn_at_is_refused(temperature):
    with pytest.raises(EvaluationError, match="; expected 0, which takes the likeliest token, or"):
        answer(eval_zoo.dspa(), prompts(1), max_new_tokens=1, temperature=temperature)


@pytest.mark.parametrize(
    ("ids", "n", "expected"), [([1, 1, 1, 1], 1, 0.25), ([1, 2, 1, 2], 2, 2 / 3), ([1, 2], 2, 1.0)]
)
def test_distinct_ngrams(ids, n, expected):
    assert distinct(torch.tensor(ids), n) == pytest.approx(expected)
    assert np.isnan(distinct(torch.tensor(ids[:0], dtype=torch.int64), n))


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"batch_size": 0}, {"samples": 0}])
def test_a_length_a_batch_or_samples_below_one_are_refused(wrong):
    (name,) = wrong
    refused = pytest.raises(EvaluationError, match=f"{name} is 0; expected a whole number of at")
    with refused:
        branching_factor(eval_zoo.dspa(), prompts(2), **wrong)
    if name != "samples":
        with refused:
            answer(eval_zoo.dspa(), prompts(2), **wrong)


def test_distinct_of_no_tokens_to_a_gram_is_refused():
    with pytest.raises(EvaluationError, match="n is 0; expected a whole number"):
        distinct(torch.tensor([1, 2, 3]), 0)
