"""Means with intervals of all that was measured, and differences paired triple by triple."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation import (
    Effect,
    Interval,
    Match,
    Outcome,
    at_equal_length,
    bootstrap,
    effect,
    proportion,
)
from dspa_nn.receipt.inputs import Inputs
from dspa_nn.receipt.parts import Figures, Said
from dspa_nn.receipt.rewrites import Rewrite
from dspa_nn.receipt.scores import SCORES, score_changes

# Nats a token by which a margin must fall for its prompt to count as made clearly worse.
CLEARLY = 0.1
OF_ANSWERS = ("tokens", "distinct_1", "distinct_2", "repetition", "loops", "log_perplexity")


@dataclass(frozen=True)
class Under:
    """The map's margins under one way of putting the prompts.

    Attributes:
        rewrite: how they were put. effect: of the map there.
        less: that effect less the one as the prompts were given, paired.
        worse: the share of prompts whose margin falls.
    """

    rewrite: Rewrite
    effect: Effect
    less: Effect
    worse: Interval


@dataclass(frozen=True)
class Measured:
    """All that was measured for a receipt, ready to be told.

    Attributes:
        inputs: triples, questions and notes.
        outcomes: the map first, then whatever it is compared with; one value per held-out triple.
        texts: answers by method, the unsteered model's too. plain: figures of its answers.
        sampled: the map's figures of answers at `temperature`, less the unsteered model's.
        entropies: mean entropy of next tokens along answers sampled at temperature 1, nats a token;
            by method, "unsteered" and the map.
        choices: by method, "unsteered" too; empty where no questions were given.
        under: the map with its prompts put otherwise.
        matches: how near each control came to the map's strength.
        lengths: tokens of the chosen and of the rejected response of each triple.
        scores: those that the preferences are about, which are judged.
        temperature: of the sampled answers.
        seed: of bootstraps, permutations and samples.
    """

    inputs: Inputs
    outcomes: list[Outcome]
    texts: Mapping[str, list[str]]
    plain: Figures
    sampled: Outcome
    entropies: Figures
    choices: Mapping[str, Figures]
    under: list[Under]
    matches: Mapping[str, Match]
    lengths: Float64[np.ndarray, "n 2"]
    scores: list[str]
    temperature: float
    seed: int

    @property
    def map(self) -> Outcome:
        """The map's figures."""
        return self.outcomes[0]

    @property
    def others(self) -> list[Outcome]:
        """The figures of what it is compared with."""
        return self.outcomes[1:]

    def right(self, name: str, figure: str = "right_by_length") -> Interval:
        """Share of questions that a method answers rightly."""
        return proportion(self.choices[name][figure])

    def right_change(self, name: str, figure: str = "right_by_length") -> Interval:
        """That share less the unsteered model's, question by question.

        Where no question's answer changed, a bootstrap would be sure that none ever does: then the
        interval is that of the rule of three, 3 in so many questions to either side.
        """
        return self._right_less(name, "unsteered", figure)

    def right_less(self, other: Outcome) -> Interval:
        """The map's share less another method's, in the same way."""
        return self._right_less(self.map.name, other.name, "right_by_length")

    def _right_less(self, name: str, other: str, figure: str) -> Interval:
        gap = self.choices[name][figure] - self.choices[other][figure]
        if not gap.any():
            most = min(1.0, 3 / len(gap))
            return Interval(0.0, -most, most, len(gap))
        return bootstrap(gap, seed=self.seed)

    def branching(self) -> dict[str, Interval]:
        """The branching factor of either, and the map's over the unsteered model's, paired."""
        unsteered, steered = (self.entropies[name] for name in ("unsteered", self.map.name))
        logs = {"unsteered": unsteered, self.map.name: steered, "ratio": steered - unsteered}
        return {name: bootstrap(log, seed=self.seed).exp() for name, log in logs.items()}

    def worse(self, outcome: Outcome, by: float = 0.0) -> Interval:
        """Share of prompts whose margin a method lowers by more than so many nats a token."""
        return proportion(outcome.values["change"] < -by)

    def at_equal_length(self, outcome: Outcome) -> Interval:
        """The change of the margin that is left where both responses are of one length."""
        chosen, rejected = self.lengths.T
        return at_equal_length(outcome.values["change"], chosen, rejected, seed=self.seed)

    def fewer_worse(self, other: Outcome) -> Interval:
        """That share under the map less under another method, prompt by prompt."""
        gap = (self.map.values["change"] < 0).astype(float) - (other.values["change"] < 0)
        return bootstrap(gap, seed=self.seed)

    def moved(self, outcome: Outcome) -> dict[str, Interval]:
        """By how much answers moved towards what is preferred, by score."""
        return {name: outcome.interval(f"{name}_toward", self.seed) for name in SCORES}


def outcome_of(
    name: str,
    inputs: Inputs,
    margin: Mapping[str, Any],
    said: Said,
    plain: Said,
) -> Outcome:
    """Figures of one method: of its margins, its answers, and their change."""
    values: dict[str, Any] = {**margin, **said.values}
    for figure in OF_ANSWERS:
        values[f"{figure}_change"] = said.values[figure] - plain.values[figure]
    toward = score_changes(inputs.test, plain.texts, said.texts)
    values |= {f"{score}_toward": change for score, change in toward.items()}
    values["answer_changed"] = np.array(
        [float(a != b) for a, b in zip(said.texts, plain.texts, strict=True)]
    )
    return Outcome(name, values)


def under(rewrite: Rewrite, figures: Figures, as_given: Outcome, seed: int) -> Under:
    """The map's effect on rewritten prompts, beside that on the same prompts as they were given."""
    before = {name: as_given.values[name][rewrite.rows] for name in ("chosen", "rejected")}
    return Under(
        rewrite,
        effect(figures["chosen"], figures["rejected"], seed=seed),
        effect(*(figures[name] - before[name] for name in ("chosen", "rejected")), seed=seed),
        proportion(figures["change"] < 0),
    )


def of_method(measured: Measured, outcome: Outcome) -> dict[str, Any]:
    """Every figure of a method with its interval, as plain values for JSON."""
    seed = measured.seed
    figures: dict[str, Any] = {
        "margin": outcome.effect(seed).to_dict(),
        "margin_at_equal_length": measured.at_equal_length(outcome).to_dict(),
        "worse": measured.worse(outcome).to_dict(),
        "clearly_worse": measured.worse(outcome, CLEARLY).to_dict(),
        "kl": outcome.interval("kl", seed).to_dict(),
        "perplexity_ratio": outcome.interval("log_perplexity_change", seed).exp().to_dict(),
        "toward_preferred": {name: i.to_dict() for name, i in measured.moved(outcome).items()},
    }
    for name in ("chosen_edits", "rejected_edits", "chosen_share", "rejected_share"):
        figures[name] = outcome.interval(name, seed).to_dict()
    for name in ("tokens", "distinct_1", "distinct_2", "repetition", "loops", "answer_changed"):
        figures[name] = outcome.interval(name, seed).to_dict()
    for name in ("tokens_change", "distinct_2_change", "repetition_change", "loops_change"):
        figures[name] = outcome.interval(name, seed).to_dict()
    if measured.choices:
        figures["multiple_choice"] = {
            name: {
                "share": measured.right(outcome.name, name).to_dict(),
                "change": measured.right_change(outcome.name, name).to_dict(),
            }
            for name in ("right", "right_by_length")
        }
    figures["values"] = {name: plain(values) for name, values in outcome.values.items()}
    return figures


def map_less(measured: Measured, other: Outcome) -> dict[str, Any]:
    """The map less another method, paired, as plain values for JSON."""
    seed = measured.seed
    gaps = {
        name: measured.map.gap(figure, other, seed).to_dict()
        for name, figure in (
            ("kl", "kl"),
            ("log_perplexity", "log_perplexity_change"),
            *((f"{score}_toward", f"{score}_toward") for score in SCORES),
        )
    }
    found: dict[str, Any] = {
        **measured.map.less(other, seed).to_dict(),
        "worse": measured.fewer_worse(other).to_dict(),
        **gaps,
    }
    if measured.choices:
        found["multiple_choice"] = measured.right_less(other).to_dict()
    return found


def plain(values: Sequence[float] | Any) -> list[float | None]:
    """Values for JSON; what is not a number becomes None."""
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
