"""What one method did, as figures by name, one value per held-out triple; and their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation.answers import Answers, distinct, surprise
from dspa_nn.evaluation.effects import Effect, effect
from dspa_nn.evaluation.margin import Margins
from dspa_nn.evaluation.statistics import Interval, bootstrap
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA

Values = Mapping[str, Float64[np.ndarray, " n"]]


@dataclass(frozen=True)
class Outcome:
    """What one method did; every array of `values` holds one figure per held-out triple.

    Example:
        >>> figures = {"chosen": np.array([0.1, 0.3]), "rejected": np.array([0.0, -0.2])}
        >>> one = Outcome("map", figures)
        >>> round(one.effect(0).margin.mean, 3), one.interval("chosen", 0, [True, False]).n
        (0.3, 1)

    Attributes:
        name: the method's.
        values: figures by name, those of `margin_values` and `answer_values` among them.
        margins, answers: what they were taken from, where it was kept.
    """

    name: str
    values: Values
    margins: Margins | None = None
    answers: Answers | None = None

    def interval(self, figure: str, seed: int, only: Sequence[bool] | None = None) -> Interval:
        """The mean of a figure over some triples; None, all."""
        return bootstrap(self._kept(figure, only), seed=seed)

    def effect(self, seed: int, only: Sequence[bool] | None = None) -> Effect:
        """The change of the margin with its parts, over some triples; None, all."""
        chosen, rejected = (self._kept(name, only) for name in ("chosen", "rejected"))
        return effect(chosen, rejected, seed=seed)

    def less(self, other: "Outcome", seed: int) -> Effect:
        """That effect less another method's, triple by triple."""
        parts = (self.values[name] - other.values[name] for name in ("chosen", "rejected"))
        return effect(*parts, seed=seed)

    def gap(self, figure: str, other: "Outcome", seed: int) -> Interval:
        """A figure less another method's, triple by triple."""
        return bootstrap(self.values[figure] - other.values[figure], seed=seed)

    def _kept(self, figure: str, only: Sequence[bool] | None) -> Float64[np.ndarray, " kept"]:
        return self.values[figure][slice(None) if only is None else np.asarray(only, dtype=bool)]


def margin_values(measured: Margins) -> Values:
    """Figures of the margin and of its parts, by the names that they have in reports.

    Example:
        >>> from dspa_nn.evaluation import margins
        >>> plain, steered = margins(dspa, triples[:4], [DSPAMethod("tuned", dspa, map)])
        >>> sorted(margin_values(steered))[:3]
        ['change', 'chosen', 'chosen_edits']
    """
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

    Example:
        >>> from dspa_nn.evaluation import answer
        >>> surprises = Surprises(dspa, [prompt])
        >>> surprises.of(answer(dspa, [prompt], max_new_tokens=3)).shape
        (1,)

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


def answer_values(answers: Answers, surprises: Surprises) -> Values:
    """Figures of answers that need nothing but their tokens, by the names that reports give them.

    Example:
        >>> from dspa_nn.evaluation import answer
        >>> said = answer(dspa, [prompt], max_new_tokens=3)
        >>> list(answer_values(said, Surprises(dspa, [prompt])))
        ['tokens', 'distinct_1', 'distinct_2', 'log_perplexity']
    """
    return {
        "tokens": np.array([float(len(ids)) for ids in answers.ids]),
        "distinct_1": np.array([distinct(ids, 1) for ids in answers.ids]),
        "distinct_2": np.array([distinct(ids, 2) for ids in answers.ids]),
        "log_perplexity": surprises.of(answers),
    }
