"""Multiple choice by teacher forcing: which choice a model finds likeliest after the question."""

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float64

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation.teacher_forcing import TOKEN_BUDGET, force
from dspa_nn.files import as_path, numbered_lines
from dspa_nn.steering import DSPA, SteeringMethod


@dataclass(frozen=True)
class ChoiceItem:
    r"""A question with its choices, and which of them is right.

    >>> ChoiceItem("Which is a bird?", ("a wren", "a trout"), 0).prompt
    'Question: Which is a bird?\nAnswer:'
    """

    question: str
    choices: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        if not all(text.strip() for text in self.choices):
            raise EvaluationError(
                f"the question {self.question[:40]!r} has an empty choice; give it a text"
            )

    @property
    def prompt(self) -> str:
        """What stands before a choice, as lm-evaluation-harness writes it."""
        asked = self.question.strip()
        lead = asked if asked.startswith("Question:") else f"Question: {asked}"
        return f"{lead}\nAnswer:"


@dataclass(frozen=True)
class ChoiceScores:
    """Which questions a model answered rightly under one method: 1 or 0, one value per question.

    Attributes:
        right: by the log-likelihood of a whole choice (lm-eval's `acc`).
        right_by_length: by that per character of the choice (lm-eval's `acc_norm`), which does not
            count the space before it.
    """

    right: Float64[np.ndarray, " n"]
    right_by_length: Float64[np.ndarray, " n"]


def load_choices(path: str | os.PathLike[str], limit: int | None = None) -> list[ChoiceItem]:
    """Read questions from JSON Lines.

    Example:
        >>> row = {"question": "Which is a bird?", "choices": ["a wren", "a trout"], "answer": "A"}
        >>> _ = as_path("questions.jsonl").write_text(json.dumps(row))
        >>> load_choices("questions.jsonl")[0].answer
        0

    A line has `question`, `choices` and `answer`, which is a number from 0, a letter from A or a
    choice itself; or, as in llm-foundry's files, `query`, `choices` and `gold`.

    limit: read no more than so many; None, all.

    Raises:
        EvaluationError: a file that is missing, empty or in another layout.
    """
    lines = numbered_lines(path, "JSON Lines of questions", EvaluationError)
    items = [_item(line, where) for where, line in lines[:limit]]
    if not items:
        raise EvaluationError(
            f"{as_path(path).name} holds no questions; give at least one, or leave it out"
        )
    return items


def choose(
    dspa: DSPA,
    items: Sequence[ChoiceItem],
    methods: Sequence[SteeringMethod | None],
    *,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
) -> list[ChoiceScores]:
    """Answer every question under every method; None is the unsteered model.

    Example:
        >>> (scores,) = choose(dspa, [ChoiceItem("sun", ("moon", "hail"), 0)], [None])
        >>> scores.right.shape
        (1,)

    A choice is teacher-forced after the question, a space before it, and the question's last token
    is the first that is steered.

    Args:
        dspa: the model that is measured, and its tokenizer.
        items: the questions.
        methods: what is compared.
        token_budget: padded tokens to a pass.
        advance: called with the choices that are done, under each method.

    Raises:
        DSPAError: what rendering or a method raises.
    """
    sequences = [dspa.render(one.prompt, f" {text}") for one in items for text in one.choices]
    found = force(dspa, sequences, methods, token_budget=token_budget, advance=advance)
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    letters = np.array([len(text) for one in items for text in one.choices])
    starts = np.cumsum([0, *(len(one.choices) for one in items)])
    scores: list[ChoiceScores] = []
    for forced in found:
        total = forced.log_prob * tokens
        scores.append(
            ChoiceScores(*(_right(values, starts, items) for values in (total, total / letters)))
        )
    return scores


def _right(
    values: Float64[np.ndarray, " choices"], starts: np.ndarray, items: Sequence[ChoiceItem]
) -> Float64[np.ndarray, " n"]:
    picked = [int(np.argmax(values[a:b])) for a, b in itertools.pairwise(starts)]
    return np.array([float(at == one.answer) for at, one in zip(picked, items, strict=True)])


def _item(line: str, where: str) -> ChoiceItem:
    try:
        loaded: Any = json.loads(line)
    except ValueError:
        raise EvaluationError(f"{where} is no JSON; give one question a line") from None
    row = cast(Mapping[str, Any], loaded if isinstance(loaded, dict) else {})
    question = row.get("question", row.get("query"))
    listed: Any = row.get("choices")
    answer: Any = row.get("answer", row.get("gold"))
    choices = cast(list[Any], listed if isinstance(listed, list) else [])
    texts = all(isinstance(text, str) and text.strip() for text in choices)
    if not isinstance(question, str) or not texts or len(choices) < 2:
        raise EvaluationError(
            f"{where} has {', '.join(row) or 'no keys'}; a question, at least two choices and the "
            "answer were expected, as question, choices, answer"
        )
    place = _place(answer, choices)
    if place is None:
        raise EvaluationError(
            f"{where} has the answer {answer!r}, which is none of its {len(choices)} choices; give "
            "its number from 0, its letter or its text"
        )
    return ChoiceItem(question, tuple(choices), place)


def _place(answer: Any, choices: Sequence[str]) -> int | None:
    """Where the right choice stands, named in any of three ways."""
    if isinstance(answer, str) and answer in choices:
        return list(choices).index(answer)
    if isinstance(answer, str):
        answer = ord(answer.upper()) - ord("A") if len(answer) == 1 and answer.isalpha() else None
    if not isinstance(answer, int) or isinstance(answer, bool):
        return None
    return answer if 0 <= answer < len(choices) else None
