"""Preference accuracy, length control, repetition, loops and the branching factor."""

import numpy as np
import pytest
import torch

from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import (
    Answers,
    alike,
    answer,
    answer_lengths,
    at_equal_length,
    branching,
    branching_factor,
    loop,
    margins,
    preference,
    preference_of,
    reading_grade,
    repetition,
)
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo


def test_accuracy_is_the_sign_of_the_margin():
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(6)
    method = DSPAMethod("", dspa, eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)
    plain, steered = margins(dspa, triples, [method])
    found = preference(steered)
    assert found.values.tolist() == (steered.margin > 0).astype(float).tolist()
    assert found.accuracy.mean == found.values.mean()
    gap = found.less(preference(plain))
    assert gap.mean == pytest.approx(found.values.mean() - (plain.margin > 0).mean())
    summed = preference(steered, per="response").values
    for one, triple in zip(summed, triples, strict=True):
        prompt = dspa.render(triple.prompt)
        texts = triple.chosen, triple.rejected
        sides = [dspa.render(prompt, text).response_ids for text in texts]
        place = triples.index(triple)
        total = [
            getattr(steered, side).log_prob[place] * len(ids)
            for side, ids in zip(("chosen", "rejected"), sides, strict=True)
        ]
        assert one == float(total[0] > total[1])
    assert set(found.to_dict()) == {
        "accuracy", "at_equal_length", "alike", "longer", "margin", "margin_at_equal_length"
    }  # fmt: skip


def test_what_length_alone_explains_is_gone_at_equal_length():
    random = np.random.default_rng(0)
    rejected = random.integers(20, 200, 300).astype(float)
    chosen = np.round(rejected * np.exp(random.normal(0.5, 0.5, 300))).clip(1)
    ratio = np.log(chosen / rejected)
    only_length = at_equal_length(0.7 * ratio, chosen, rejected)
    assert abs(only_length.mean) < 1e-9
    both = at_equal_length(0.7 * ratio + 0.2 + random.normal(0, 0.3, 300), chosen, rejected)
    assert both.low < 0.2 < both.high
    assert both.n == 300
    found = preference_of(0.7 * ratio, chosen, rejected)
    assert found.accuracy.mean == found.longer.mean > 0.7
    assert found.margin_at_equal_length.mean == pytest.approx(0, abs=1e-9)


def test_without_a_spread_of_lengths_the_mean_is_given():
    same = at_equal_length([0.1, 0.3], [10, 20], [10, 20])
    assert same.mean == pytest.approx(0.2)
    assert at_equal_length([0.4], [10], [20]).mean == 0.4
    assert np.isnan(at_equal_length([], [], []).mean)
    assert np.isnan(preference_of(np.array([0.4]), np.array([9.0]), np.array([3.0])).alike.mean)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(DSPAError, match="2 values came with lengths of 1 pairs"):
        at_equal_length([1, 2], [3], [4])
    with pytest.raises(DSPAError, match="a response of no token came"):
        alike([0], [4])
    with pytest.raises(DSPAError, match="give one of each per triple"):
        alike([1, 2], [4])
    one, two = (preference_of(np.ones(n), np.ones(n), np.ones(n)) for n in (1, 2))
    with pytest.raises(DSPAError, match="over 1 and 2 triples"):
        one.less(two)


def test_repetition_counts_what_was_said_before():
    ids = torch.tensor([1, 2, 3, 1, 2, 3, 1, 2, 3])
    assert repetition(ids, 3) == pytest.approx(4 / 7)
    assert repetition(torch.arange(9), 2) == 0
    assert np.isnan(repetition(torch.arange(3)))
    with pytest.raises(DSPAError, match="n"):
        repetition(ids, 0)


@pytest.mark.parametrize(
    ("ids", "period"),
    [
        ([7] * 8, 1),
        ([7] * 7, 0),  # too short to tell
        ([1, 2, 3, 4, *[5, 6] * 4], 2),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0),
        ([*[5, 6] * 4, 9], 0),  # it got out of the loop
        ([1, 2, 3] * 3, 3),
        ([], 0),
    ],
)
def test_a_loop_is_what_an_answer_ends_in(ids, period):
    assert loop(torch.tensor(ids, dtype=torch.int64)) == period


def test_the_branching_factor_is_that_of_the_definition():
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(one.prompt) for one in eval_zoo.triples(3)]
    method = DSPAMethod("", dspa, eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)
    before = torch.random.get_rng_state()
    for steering in (None, method):
        found = branching_factor(dspa, prompts, steering, max_new_tokens=5, batch_size=2)
        assert torch.equal(torch.random.get_rng_state(), before)
        for value, prompt, said in zip(found.entropy, prompts, found.answers.ids, strict=True):
            ids = torch.cat([prompt.ids, said])
            with torch.no_grad():
                if steering is None:
                    logits = eval_zoo.model()(ids[None]).logits[0]
                else:
                    with dspa.attach(eval_zoo.model(), method.map, prompt=prompt, **method.options):
                        logits = eval_zoo.model()(ids[None]).logits[0]
            made = min(len(said) + 1, 5)
            p = logits[len(prompt.ids) - 1 :][:made].softmax(-1)
            assert value == pytest.approx(float(-(p * p.log()).sum(-1).mean()), abs=1e-4)
        assert found.factor.mean == pytest.approx(np.exp(found.entropy.mean()))
    assert found.ratio(found).mean == 1


def test_an_answer_counts_up_to_its_end_and_what_is_made_of_it_afterwards_does_not(monkeypatch):
    """A batch goes on until its last answer ends: rows that are over make steps of no meaning."""
    prompts = [eval_zoo.dspa().render("sun")] * 2

    def two(*_, each_step, **__):
        for step in range(4):  # among 2, 4, 8 and 16 tokens, all as likely
            logits = torch.full((2, 32), -torch.inf)
            logits[:, : 2 ** (step + 1)] = 0
            each_step(logits)
        return Answers(["", ""], [torch.tensor([5]), torch.tensor([5, 6, 7, 8])], [])

    monkeypatch.setattr(branching, "answer", two)
    found = branching_factor(eval_zoo.dspa(), prompts, max_new_tokens=4)
    # One token and its end are two steps; the other was cut off at its fourth token.
    assert found.entropy == pytest.approx(np.log(2) * np.array([1.5, 2.5]), rel=1e-5)
    assert found.factor.mean == pytest.approx(4)


def test_sampling_is_repeatable_and_lengths_are_of_tokens():
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(one.prompt) for one in eval_zoo.triples(2)]
    one, two = (branching_factor(dspa, prompts, samples=2, max_new_tokens=4) for _ in range(2))
    assert np.array_equal(one.entropy, two.entropy)
    assert one.answers.texts == two.answers.texts
    assert len(one.entropy) == 4
    said = answer(dspa, prompts, max_new_tokens=4)
    assert answer_lengths(said).tolist() == [float(len(ids)) for ids in said.ids]


def test_reading_grades_rise_with_words_and_sentences():
    easy = "The cat sat on the mat. It saw a dog. The dog ran."
    hard = "Notwithstanding considerable experimentation, electromagnetic interference persisted."
    for formula in ("ari", "coleman-liau"):
        assert reading_grade(hard, formula) > reading_grade(easy, formula) + 5
    assert np.isnan(reading_grade("..."))
