"""The demo's figures: what each method did on the held-out triples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dspa_nn.demo.sets import DemoSet
from dspa_nn.evaluation import (
    Answers,
    Effect,
    Interval,
    Margins,
    answer,
    bootstrap,
    distinct,
    effect,
    margins,
    surprise,
)
from dspa_nn.progress import show_progress
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, SteeringMethod
from dspa_nn.triples import DemoRow

# Prompts that are answered at once: the more, the quicker; memory is no matter for a small model.
_BATCH = 50

Values = Mapping[str, Float64[np.ndarray, " n"]]


@dataclass(frozen=True)
class Outcome:
    """What one method did; every array of `values` holds one figure per held-out triple."""

    name: str
    values: Values
    margins: Margins | None = None
    answers: Answers | None = None

    def interval(self, figure: str, seed: int, rows: Sequence[DemoRow], kind: str = "") -> Interval:
        """The mean of a figure over the triples of one kind, or of all."""
        return bootstrap(self.values[figure][of_kind(rows, kind)], seed=seed)

    def effect(self, seed: int, rows: Sequence[DemoRow], kind: str = "") -> Effect:
        """The change of the margin with its parts, over the triples of one kind, or of all."""
        kept = of_kind(rows, kind)
        chosen, rejected = (self.values[name][kept] for name in ("chosen", "rejected"))
        return effect(chosen, rejected, seed=seed)

    def less(self, other: "Outcome", seed: int) -> Effect:
        """That effect less another method's, triple by triple."""
        parts = (self.values[name] - other.values[name] for name in ("chosen", "rejected"))
        return effect(*parts, seed=seed)

    def gap(self, figure: str, other: "Outcome", seed: int) -> Interval:
        """A figure less another method's, triple by triple."""
        return bootstrap(self.values[figure] - other.values[figure], seed=seed)


def of_kind(rows: Sequence[DemoRow], kind: str) -> Sequence[bool]:
    """Which rows are of a kind; all are where it is empty."""
    return [kind in ("", row.kind) for row in rows]


def kinds_of(rows: Sequence[DemoRow]) -> list[str]:
    """The kinds of prompt, in order."""
    return sorted({row.kind for row in rows})


def margin_values(measured: Margins) -> Values:
    """Figures of the margin and of its parts, by the names that they have in the report."""
    chosen, rejected = measured.chosen, measured.rejected
    return {
        "margin": measured.margin,
        "change": measured.change,
        "chosen": chosen.change,
        "rejected": rejected.change,
        "chosen_edits": chosen.edits,
        "rejected_edits": rejected.edits,
        "chosen_share": chosen.share,
        "rejected_share": rejected.share,
        "kl": measured.kl,
    }


class Surprises:
    """Log perplexities of answers under the unsteered model, each taken once.

    Many answers are the same under several methods, and a pass over them costs as much as a third
    of generating them.
    """

    def __init__(self, dspa: DSPA, prompts: Sequence[Rendered]) -> None:
        self.dspa, self.prompts = dspa, list(prompts)
        self.known: dict[tuple[int, ...], float] = {}

    def of(self, answers: Answers) -> Float64[np.ndarray, " n"]:
        """One for each answer, nats per token."""
        keys = [(index, *map(int, ids)) for index, ids in enumerate(answers.ids)]
        new = [index for index, key in enumerate(keys) if key not in self.known]
        fresh = Answers([answers.texts[i] for i in new], [answers.ids[i] for i in new], [])
        found = surprise(self.dspa, [self.prompts[index] for index in new], fresh)
        self.known.update(
            (keys[index], float(value)) for index, value in zip(new, found, strict=True)
        )
        return np.array([self.known[key] for key in keys])


def answer_values(
    shown: DemoSet, rows: Sequence[DemoRow], answers: Answers, surprises: Surprises
) -> Values:
    """Figures of answers; the score is signed so that more is what is preferred."""
    scores = [shown.signed(row, text) for row, text in zip(rows, answers.texts, strict=True)]
    return {
        "score": np.array(scores),
        "tokens": np.array([float(len(ids)) for ids in answers.ids]),
        "distinct_1": np.array([distinct(ids, 1) for ids in answers.ids]),
        "distinct_2": np.array([distinct(ids, 2) for ids in answers.ids]),
        "log_perplexity": surprises.of(answers),
    }


def measure(
    dspa: DSPA,
    shown: DemoSet,
    rows: Sequence[DemoRow],
    methods: Sequence[SteeringMethod],
    max_new_tokens: int,
) -> list[Outcome]:
    """Margins on all rows and answers to all of their prompts, unsteered and under each method."""
    triples = [row.triple for row in rows]
    with show_progress("margins", 2 * len(rows) * (1 + len(methods)), "responses") as advance:
        measured = margins(dspa, triples, methods, advance=advance)
    prompts = [dspa.render(row.triple.prompt) for row in rows]
    surprises = Surprises(dspa, prompts)
    outcomes: list[Outcome] = []
    everyone: list[SteeringMethod | None] = [None, *methods]
    with show_progress("answers", len(rows) * len(everyone), "prompts") as advance:
        for figures, method in zip(measured, everyone, strict=True):
            answers = answer(
                dspa,
                prompts,
                method,
                max_new_tokens=max_new_tokens,
                batch_size=_BATCH,
                advance=advance,
            )
            values = {**margin_values(figures), **answer_values(shown, rows, answers, surprises)}
            unsteered = outcomes[0].values if outcomes else values
            for name in ("score", "log_perplexity"):
                values[f"{name}_change"] = values[name] - unsteered[name]
            name = "unsteered" if method is None else method.name
            outcomes.append(Outcome(name, values, figures, answers))
    return outcomes
