"""The demo's figures: what each condition did on the held-out triples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation.answers import Answers, answer, distinct, surprise
from dspa_nn.evaluation.margin import Margins, margins
from dspa_nn.evaluation.methods import Condition
from dspa_nn.evaluation.statistics import Interval, bootstrap
from dspa_nn.evaluation.style import warmth
from dspa_nn.steering.dspa import DSPA
from dspa_nn.triples import DemoRow

# Figures of the margin passes, and of the generated answers, by the names they have in the report.
MARGIN_FIGURES = ("margin", "change", "kl", "edits", "norm")
ANSWER_FIGURES = ("style", "tokens", "distinct_1", "distinct_2", "log_perplexity")


@dataclass(frozen=True)
class Outcome:
    """What one condition did; every array holds one value a held-out triple.

    `values` may hold fewer for figures of answers than of margins: those of the first prompts.
    """

    name: str
    values: Mapping[str, Float64[np.ndarray, " n"]]
    answers: Answers | None = None
    by_latent: Mapping[int, int] = field(default_factory=dict)

    def interval(self, figure: str, seed: int, rows: Sequence[DemoRow], kind: str = "") -> Interval:
        """The mean of a figure over the triples of one kind, or of all."""
        values = self.values.get(figure, np.zeros(0))
        own = [kind in ("", row.kind) for row in rows[: len(values)]]
        return bootstrap(values[own], seed=seed)


def margin_values(own: Margins) -> dict[str, Float64[np.ndarray, " n"]]:
    """The figures of `MARGIN_FIGURES`."""
    return {name: getattr(own, name) for name in MARGIN_FIGURES}


def answer_values(
    dspa: DSPA, rows: Sequence[DemoRow], answers: Answers
) -> dict[str, Float64[np.ndarray, " n"]]:
    """The figures of `ANSWER_FIGURES`; style is signed so that more is what is preferred."""
    prompts = [dspa.render(row.triple.prompt) for row in rows]
    warm = [row.sign * warmth(text) for row, text in zip(rows, answers.texts, strict=True)]
    return {
        "style": np.array(warm),
        "tokens": np.array([float(len(ids)) for ids in answers.ids]),
        "distinct_1": np.array([distinct(ids, 1) for ids in answers.ids]),
        "distinct_2": np.array([distinct(ids, 2) for ids in answers.ids]),
        "log_perplexity": surprise(dspa, prompts, answers),
    }


def measure(
    dspa: DSPA,
    rows: Sequence[DemoRow],
    conditions: Sequence[tuple[Condition, int]],
    max_new_tokens: int,
    advance: Callable[[str, float], Any] = lambda *_: None,
) -> list[Outcome]:
    """Margins on all rows, and answers to the first of them, unsteered and under each condition.

    conditions: each with the number of prompts to answer under it. advance: called with "margins"
    or "answers" and how many triples, or prompts, are done.
    """
    triples = [row.triple for row in rows]
    found = margins(
        dspa,
        triples,
        [condition for condition, _ in conditions],
        advance=lambda done: advance("margins", done),
    )
    outcomes = []
    everyone: list[tuple[Condition | None, int]] = [(None, len(rows)), *conditions]
    for own, (condition, number) in zip(found, everyone, strict=True):
        first = rows[:number]
        answers = answer(
            dspa,
            [dspa.render(row.triple.prompt) for row in first],
            condition,
            max_new_tokens=max_new_tokens,
            advance=lambda done: advance("answers", done),
        )
        values = margin_values(own) | answer_values(dspa, first, answers)
        if outcomes:
            plain = outcomes[0].values
            for name in ("style", "log_perplexity"):
                values[f"{name}_change"] = values[name] - plain[name][:number]
        name = "unsteered" if condition is None else condition.name
        outcomes.append(Outcome(name, values, answers, own.by_latent))
    return outcomes
