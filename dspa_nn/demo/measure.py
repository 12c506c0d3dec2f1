"""The demo's figures: what each method did on the held-out triples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation import (
    Answers,
    Interval,
    Margins,
    answer,
    bootstrap,
    distinct,
    margins,
    surprise,
    warmth,
)
from dspa_nn.progress import show_progress
from dspa_nn.steering import DSPA, SteeringMethod
from dspa_nn.triples import DemoRow

# Figures of the margin passes, and of the generated answers, by the names they have in the report.
MARGIN_FIGURES = ("margin", "change", "kl", "edits", "share")
ANSWER_FIGURES = ("style", "tokens", "distinct_1", "distinct_2", "log_perplexity")

Values = Mapping[str, Float64[np.ndarray, " n"]]


@dataclass(frozen=True)
class Outcome:
    """What one method did; every array holds one value per held-out triple.

    `values` may hold fewer for figures of answers than of margins: those of the first prompts.
    """

    name: str
    values: Values
    answers: Answers | None = None
    by_latent: Mapping[int, int] = field(default_factory=dict[int, int])

    def interval(self, figure: str, seed: int, rows: Sequence[DemoRow], kind: str = "") -> Interval:
        """The mean of a figure over the triples of one kind, or of all."""
        values = self.values.get(figure, np.zeros(0))
        wanted = [kind in ("", row.kind) for row in rows[: len(values)]]
        return bootstrap(values[wanted], seed=seed)


def margin_values(measured: Margins) -> Values:
    """The figures of `MARGIN_FIGURES`."""
    return {name: getattr(measured, name) for name in MARGIN_FIGURES}


def answer_values(dspa: DSPA, rows: Sequence[DemoRow], answers: Answers) -> Values:
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
    methods: Sequence[tuple[SteeringMethod, int]],
    max_new_tokens: int,
) -> list[Outcome]:
    """Margins on all rows, and answers to the first of them, unsteered and under each method.

    methods: each with the number of prompts to answer under it.
    """
    triples = [row.triple for row in rows]
    with show_progress("margins", 2 * len(rows) * (1 + len(methods)), "responses") as advance:
        measured = margins(dspa, triples, [method for method, _ in methods], advance=advance)
    everyone: list[tuple[SteeringMethod | None, int]] = [(None, len(rows)), *methods]
    outcomes: list[Outcome] = []
    with show_progress("answers", sum(number for _, number in everyone), "prompts") as advance:
        for figures, (method, number) in zip(measured, everyone, strict=True):
            answers = answer(
                dspa,
                [dspa.render(row.triple.prompt) for row in rows[:number]],
                method,
                max_new_tokens=max_new_tokens,
                advance=advance,
            )
            values = {**margin_values(figures), **answer_values(dspa, rows[:number], answers)}
            if outcomes:
                unsteered = outcomes[0].values
                for name in ("style", "log_perplexity"):
                    values[f"{name}_change"] = values[name] - unsteered[name][:number]
            name = "unsteered" if method is None else method.name
            outcomes.append(Outcome(name, values, answers, figures.by_latent))
    return outcomes
