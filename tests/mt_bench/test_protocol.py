"""What FastChat's protocol fixes beside its files: seeds, temperatures, lengths and means."""

from pathlib import Path
from typing import Any

import pytest

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import bootstrap
from dspa_nn.mt_bench import MTBench, answer_questions, answers, score_judgments
from tests import eval_zoo
from tests.mt_bench import bench


def test_each_question_is_sampled_from_the_seed_anew(tmp_path: Path) -> None:
    """What was answered before it, in this run or another, does not matter."""
    asked = [
        {"question_id": n, "category": "roleplay", "turns": ["Describe a lake.", "Again."]}
        for n in (1, 2)
    ]
    questions = MTBench.load(bench.folder(tmp_path / "data", questions=asked))
    whole = answer_questions(
        eval_zoo.dspa(), questions, tmp_path / "out", name="m", max_new_tokens=8
    )
    assert whole[1] == whole[2]
    assert whole[1][0] != whole[1][1]


def test_temperatures_are_fastchats(tmp_path: Path) -> None:
    kinds = {"writing": 0.7, "extraction": 0, "coding": 0, "reasoning": 0, "stem": 0.1, "own": 0.7}
    asked = [
        {"question_id": n, "category": kind, "turns": ["a", "b"]} for n, kind in enumerate(kinds)
    ]
    answers = [{"question_id": n, "choices": [{"turns": ["c", "d"]}]} for n in range(len(kinds))]
    read = MTBench.load(bench.folder(tmp_path, questions=asked, references=answers))
    assert [read.temperature(n) for n in read.questions] == [*kinds.values()]


def test_an_answer_ends_before_a_stop_text(tmp_path: Path) -> None:
    questions = MTBench.load(bench.folder(tmp_path / "data"))
    options: dict[str, Any] = {"name": "m", "max_new_tokens": 6}
    whole = answer_questions(eval_zoo.dspa(), questions, tmp_path / "a", **options)
    stop = whole[2][0][2]
    cut = answer_questions(eval_zoo.dspa(), questions, tmp_path / "b", stop=stop, **options)
    assert cut[2][0] == whole[2][0].partition(stop)[0].strip() != whole[2][0]


def test_a_mean_is_over_judgments_and_its_interval_over_questions() -> None:
    """Where a rating is missing, the mean of the turns' means is another."""
    scores = {(1, 1): 9, (1, 2): 3, (2, 1): 5, (2, 2): -1, (3, 1): 4, (3, 2): 3}
    rows = [
        {"question_id": n, "model": "m", "turn": turn, "score": score}
        for (n, turn), score in scores.items()
    ]
    table = score_judgments(rows)
    assert table.loc["m", ["turn 1", "turn 2", "mean"]].tolist() == [6.0, 3.0, 24 / 5]
    interval = bootstrap([6.0, 5.0, 3.5])
    assert table.loc["m", ["low", "high"]].tolist() == [interval.low, interval.high]


def test_answers_fill_the_context_and_without_room_for_one_the_question_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dspa, questions = eval_zoo.dspa(), MTBench.load(bench.folder(tmp_path / "data"))
    asked = questions.questions[1]["turns"][0]
    tokens = len(dspa.render([{"role": "user", "content": asked}]).ids)
    lengths: list[int] = []
    whole = answers.answer

    def noted(*given: Any, max_new_tokens: int, **options: Any) -> Any:
        lengths.append(max_new_tokens)
        return whole(*given, max_new_tokens=max_new_tokens, **options)

    monkeypatch.setattr(answers, "answer", noted)
    monkeypatch.setattr(answers, "context_length", lambda _: tokens + 1)
    told = (
        rf"the conversation of question 1 is \d+ tokens long and the model's context {tokens + 1};"
    )
    with pytest.raises(EvaluationError, match=told):
        answer_questions(dspa, questions, tmp_path, name="m", max_new_tokens=5)
    assert lengths == [1]  # of the first turn; the second has no room
    monkeypatch.setattr(answers, "context_length", lambda _: tokens)
    with pytest.raises(EvaluationError, match=f"question 1 is {tokens} tokens long"):
        answer_questions(dspa, questions, tmp_path, name="n", max_new_tokens=5)
    assert not (tmp_path / "model_answer").exists()
