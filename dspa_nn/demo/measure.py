"""The demo's figures: what each method did on the held-out triples."""

from collections.abc import Sequence

import numpy as np

from dspa_nn.demo.sets import DemoSet
from dspa_nn.evaluation import (
    Outcome,
    Surprises,
    answer,
    answer_values,
    margin_values,
    margins,
)
from dspa_nn.progress import show_progress
from dspa_nn.steering import DSPA, SteeringMethod
from dspa_nn.triples import DemoRow

# Prompts that are answered at once: the more, the quicker; memory is no matter for a small model.
_BATCH = 50


def of_kind(rows: Sequence[DemoRow], kind: str) -> list[bool]:
    """Which rows are of a kind; all are where it is empty."""
    return [kind in ("", row.kind) for row in rows]


def kinds_of(rows: Sequence[DemoRow]) -> list[str]:
    """The kinds of prompt, in order."""
    return sorted({row.kind for row in rows})


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
            # Signed so that more is what is preferred.
            scores = [
                shown.signed(row, text) for row, text in zip(rows, answers.texts, strict=True)
            ]
            values = {
                **margin_values(figures),
                "score": np.array(scores),
                **answer_values(answers, surprises),
            }
            unsteered = outcomes[0].values if outcomes else values
            for name in ("score", "log_perplexity"):
                values[f"{name}_change"] = values[name] - unsteered[name]
            name = "unsteered" if method is None else method.name
            outcomes.append(Outcome(name, values, figures, answers))
    return outcomes
