"""Files of MT-Bench in FastChat's layout: questions, references, judge prompts, answers."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, write_atomically

# FastChat: categories that are judged against a reference answer, and temperatures of the answers;
# a category that is not listed is answered at 0.7.
WITH_REFERENCE = ("math", "reasoning", "coding")
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0,
    "reasoning": 0.0, "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
OTHER_TEMPERATURE = 0.7
TURNS = 2


@dataclass(frozen=True)
class MTBench:
    """The questions, and what they are judged with.

    Attributes:
        questions: by id, in the file's order; each with `category` and two `turns`.
        references: reference answers by question id, two turns each.
        prompts: judge prompts by name, such as `single-v1`.
    """

    questions: Mapping[int, Mapping[str, Any]]
    references: Mapping[int, list[str]]
    prompts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, corrections: str | os.PathLike[str] | None = None
    ) -> "MTBench":
        """Read FastChat's `data/mt_bench` folder.

        Example:
            >>> bench = MTBench.load("mt_bench")  # doctest: +SKIP

        It holds `question.jsonl`, `judge_prompts.jsonl` and `reference_answer/gpt-4.jsonl` (or
        `reference_answer_gpt-4.jsonl`). 13 of FastChat's 30 reference answers are known to be wrong
        (lm-sys/FastChat, issue 3158).

        Args:
            folder: the folder.
            corrections: reference answers that replace those of the same question: JSON Lines as
                the file that they correct.

        Raises:
            EvaluationError: a file that is missing or broken, an id that is missing or comes twice
                (of a question or a reference), a question without two turns, one that needs a
                reference and has none, or a judge prompt that cannot be filled in.
        """
        root = as_path(folder)
        rows = _rows(root / "question.jsonl")
        if not rows:
            raise EvaluationError(f"{root / 'question.jsonl'} holds no questions; give another")
        questions = {
            _id(row, root / "question.jsonl", position): row for position, row in enumerate(rows, 1)
        }
        if len(questions) < len(rows):
            raise EvaluationError(
                f"{root / 'question.jsonl'} names a question twice; ids must differ: give the file "
                "of one question set."
            )
        for number, question in questions.items():
            turns = _texts(question.get("turns"))
            category: Any = question.get("category")
            if len(turns) != TURNS or not all(turns) or not isinstance(category, str):
                raise EvaluationError(
                    f"question {number} has no category or not {TURNS} turns of text; expected the "
                    "layout of FastChat's question.jsonl."
                )
        path = root / "reference_answer" / "gpt-4.jsonl"
        references = _answers(path if path.exists() else root / "reference_answer_gpt-4.jsonl")
        if corrections is not None:
            corrected = _answers(as_path(corrections))
            _known(corrected, questions, "the corrections")
            references |= corrected
        missing = [
            number
            for number, question in questions.items()
            if question["category"] in WITH_REFERENCE and number not in references
        ]
        if missing:
            raise EvaluationError(
                f"question {missing[0]} and {len(missing) - 1} more are judged against a reference "
                "answer, and have none; add them to the reference file or give corrections=."
            )
        prompts = {str(row.get("name")): row for row in _rows(root / "judge_prompts.jsonl")}
        needed = [judge_prompt(kind, turn) for kind in ("v1", "math-v1") for turn in (1, 2)]
        if lacking := [name for name in needed if name not in prompts]:
            raise EvaluationError(
                f"judge_prompts.jsonl lacks {', '.join(lacking)}; expected FastChat's judge prompts"
            )
        for name in needed:
            _check_prompt(name, prompts[name])
        return cls(questions, references, prompts)

    def temperature(self, number: int) -> float:
        """The temperature at which a question is answered; 0 is greedy."""
        return TEMPERATURES.get(self.questions[number]["category"], OTHER_TEMPERATURE)


def judge_prompt(kind: str, turn: int) -> str:
    """The name of FastChat's judge prompt.

    >>> judge_prompt("math-v1", 2)
    'single-math-v1-multi-turn'
    """
    return f"single-{kind}" + ("-multi-turn" if turn == TURNS else "")


def load_answers(path: Path, bench: MTBench) -> dict[int, list[str]]:
    """Answers of one model in FastChat's layout: question id -> two turns.

    Raises:
        EvaluationError: answers of another question set, or two for one question.
    """
    answers = _answers(path)
    _known(answers, bench.questions, str(path))
    return answers


def load_judgments(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Judgments of single answers in FastChat's layout, one row each.

    Example:
        >>> load_judgments("gpt-4_single.jsonl")  # doctest: +SKIP

    Raises:
        EvaluationError: a row without model, turn, judge or score, one that is of another type, or
            an answer that was judged twice by the same judge.
    """
    file = as_path(path)
    rows = _rows(file)
    seen: set[tuple[Any, ...]] = set()
    for position, row in enumerate(rows, 1):
        number = _id(row, file, position)
        if lacking := [name for name in ("model", "turn", "judge", "score") if name not in row]:
            raise EvaluationError(
                f"line {position} of {file} lacks {', '.join(lacking)}; expected judgments as "
                "FastChat writes them for single answers."
            )
        if wrong := _wrong_in(row):
            raise EvaluationError(
                f"line {position} of {file} has {wrong[0]} {row[wrong[0]]!r:.40}; expected "
                f"{wrong[1]}, as FastChat writes it for single answers."
            )
        key = (number, row["model"], row["turn"], *row["judge"])
        if key in seen:
            raise EvaluationError(
                f"{file} judges turn {row['turn']} of question {number} by {row['model']} twice; "
                "both would count in the mean: remove one."
            )
        seen.add(key)
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines whole, or leave what was there."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _wrong_in(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first field of a judgment that is not what it should be, and what that is."""
    score, turn = row["score"], row["turn"]
    if not isinstance(row["model"], str):
        return "model", "a name"
    if type(turn) is not int or turn not in range(1, TURNS + 1):
        return "turn", f"a whole number from 1 to {TURNS}"
    if not _texts(row["judge"]):
        return "judge", "a list of the judge's name and of its prompt's"
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return "score", "a number, -1 where there is no rating"
    return None


def _texts(value: object) -> list[str]:
    """A list of texts as it is; of anything else, no texts."""
    items = cast(list[Any], value) if isinstance(value, list) else []
    return items if all(isinstance(item, str) for item in items) else []


def _check_prompt(name: str, prompt: Mapping[str, Any]) -> None:
    """Refuse a judge prompt that cannot be filled in, before anything is answered."""
    kinds = ["question", "answer"] + ["ref_answer"] * ("math" in name)
    names = ["question", "answer"] + [f"{kind}_{turn}" for kind in kinds for turn in (1, 2)]
    reason = ""
    try:
        prompt["prompt_template"].format(**dict.fromkeys(names, ""))
        reason = "" if isinstance(prompt["system_prompt"], str) else "system_prompt is no text"
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        raise EvaluationError(
            f"the judge prompt {name} cannot be filled in ({reason}); expected FastChat's judge "
            "prompts, with system_prompt and prompt_template"
        )


def _known(given: Mapping[int, Any], questions: Mapping[int, Any], what: str) -> None:
    if unknown := [number for number in given if number not in questions]:
        raise EvaluationError(
            f"{what} answers question {unknown[0]}, which is not among the {len(questions)} "
            "questions; give answers to the same question set."
        )


def _answers(path: Path) -> dict[int, list[str]]:
    """Two turns by question id; reference answers are in the same layout as a model's."""
    answers: dict[int, list[str]] = {}
    for position, row in enumerate(_rows(path), 1):
        number = _id(row, path, position)
        if number in answers:
            raise EvaluationError(f"{path} answers question {number} twice; remove one of the two")
        answers[number] = _turns(row, path)
    return answers


def _turns(row: Mapping[str, Any], path: Path) -> list[str]:
    try:
        turns = _texts(row["choices"][0]["turns"])
    except (KeyError, IndexError, TypeError):
        turns = []
    if len(turns) != TURNS:
        raise EvaluationError(
            f"{path} holds no two turns for question {row['question_id']}; expected "
            '{"question_id": ..., "choices": [{"turns": [..., ...]}]}.'
        )
    return turns


def _id(row: Mapping[str, Any], path: Path, position: int) -> int:
    number = row.get("question_id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise EvaluationError(
            f"line {position} of {path} has no question_id; expected a whole number, as in "
            "FastChat's files."
        )
    return number


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(
            f"{path} cannot be read ({error}); give a folder in the layout of FastChat's "
            "data/mt_bench."
        ) from error
    rows: list[dict[str, Any]] = []
    for position, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise EvaluationError(
                f"line {position} of {path} is no JSON object; expected one object a line"
            )
        rows.append(cast(dict[str, Any], row))
    return rows
