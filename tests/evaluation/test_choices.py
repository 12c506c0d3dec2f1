"""Multiple choice: what is read, and that the likeliest choice is the one that the model gives."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import ChoiceItem, choices, choose, load_choices
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo

ITEMS = [
    ChoiceItem("sun", ("moon hail", "rain"), 0),
    ChoiceItem("Question: hail?", ("sun", "moon rain sun", "hail"), 2),
    ChoiceItem("moon", ("rain", "sun"), 1),
]


def test_the_likeliest_choice_is_that_of_a_plain_forward():
    dspa = eval_zoo.dspa()
    (found,) = choose(dspa, ITEMS, [None])
    for place, item in enumerate(ITEMS):
        totals = []
        for text in item.choices:
            ids = dspa.render(item.prompt, f" {text}")
            with torch.no_grad():
                logits = eval_zoo.model()(ids.ids[None]).logits[0].log_softmax(-1)
            start = ids.prompt_length
            steps = range(start, len(ids.ids))
            totals.append(sum(float(logits[at - 1, ids.ids[at]]) for at in steps))
        assert found.right[place] == float(int(np.argmax(totals)) == item.answer)
        by_length = [t / len(c) for t, c in zip(totals, item.choices, strict=True)]
        assert found.right_by_length[place] == float(int(np.argmax(by_length)) == item.answer)


@pytest.mark.filterwarnings("ignore:the response holds '<unk>':dspa_nn.DSPAWarning")
def test_a_choice_of_fewer_tokens_than_characters_is_weighed_by_its_characters(monkeypatch):
    """Tokens of the tiny tokenizer are characters, but for those that it has by name."""
    dspa = eval_zoo.dspa()
    item = ChoiceItem("sun", ("<unk>", "moon hail"), 0)
    ids = [dspa.render(item.prompt, f" {text}").response_ids for text in item.choices]
    assert [len(one) for one in ids] == [2, 10]
    # Sums of -6 and -16: per token the second is likelier, per character the first.
    forced = SimpleNamespace(log_prob=np.array([-3.0, -1.6]))
    monkeypatch.setattr(choices, "force", lambda *_, **__: [forced])
    (found,) = choose(dspa, [item], [None])
    assert (found.right.tolist(), found.right_by_length.tolist()) == ([1.0], [1.0])
    forced.log_prob = np.array([-5.0, -1.6])  # sums of -10 and -16
    (found,) = choose(dspa, [item], [None])
    assert (found.right.tolist(), found.right_by_length.tolist()) == ([1.0], [0.0])
    # Sums of -9 and -15.3: the second is likelier per character, the first with spaces counted.
    forced.log_prob = np.array([-4.5, -1.53])
    (found,) = choose(dspa, [item], [None])
    assert (found.right.tolist(), found.right_by_length.tolist()) == ([1.0], [0.0])


def test_a_method_is_measured_beside_the_unsteered_model():
    method = DSPAMethod("map", eval_zoo.dspa(), eval_zoo.counts(12).fit(percentile=50))
    done: list[int] = []
    plain, steered = choose(eval_zoo.dspa(), ITEMS, [None, method], advance=done.append)
    assert plain.right.shape == steered.right.shape == (3,)
    assert sum(done) == 2 * 7


def test_both_layouts_and_all_ways_to_name_the_answer_are_read(tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [
        {"question": "a?", "choices": ["x", "y"], "answer": answer} for answer in (1, "b", "B", "y")
    ]
    rows.append({"query": "Question: a?", "choices": ["x", "y"], "gold": 1})  # pyright: ignore
    file.write_text("\n".join(json.dumps(row) for row in rows))
    assert [item.answer for item in load_choices(file)] == [1] * 5
    assert {item.prompt for item in load_choices(file)} == {"Question: a?\nAnswer:"}
    assert len(load_choices(file, limit=2)) == 2
    odd = {"question": "a\u2028b\x85c?", "choices": ["x", "y"], "answer": 0}
    file.write_text(json.dumps(odd, ensure_ascii=False) + "\r\n")
    assert load_choices(file)[0].question == "a\u2028b\x85c?"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no questions; give at least one, or leave it out"),
        ("nonsense", "line 1 is no JSON; give one question a line"),
        ('{"question": "a?", "choices": ["x"], "answer": 0}', "at least two choices and the"),
        ('{"question": "a?", "choices": ["x", "y"], "answer": "C"}', "has the answer 'C', which is "
         "none of its 2 choices; give its number from 0, its letter or its text"),
        ("[]", "has no keys; a question"),
    ],
)  # fmt: skip
def test_bad_questions_get_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "questions.jsonl"
    file.write_text(text)
    with pytest.raises(EvaluationError) as caught:
        load_choices(file)
    assert sentence in str(caught.value)
    with pytest.raises(EvaluationError, match="cannot be read"):
        load_choices(tmp_path / "none.jsonl")


def test_a_choice_without_a_text_is_refused():
    with pytest.raises(EvaluationError, match=r"the question 'a\?' has an empty choice; give it a"):
        ChoiceItem("a?", ("x", " "), 0)
