"""Eight style axes, each with a documented scorer and how well it ranks labelled pairs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import style_scores as by_words
from dspa_nn.evaluation.statistics import Interval, proportion
from dspa_nn.files import ASSETS
from dspa_nn.progress import warn

AxisName = Literal[
    "concise", "friendly", "direct", "structured", "task", "proactive", "certain", "creative"
]
Scorer = Callable[[str], float]
# An axis whose scorer ranks a smaller share of the pairs kept apart is not measurable.
LEAST = 0.75


@dataclass(frozen=True)
class StyleAxis:
    """One axis of style: what its ends mean, how it is scored, how well that was seen to rank.

    Example:
        >>> axis = AXES["certain"]
        >>> axis.low, axis.measurable
        ('caveated', True)
        >>> axis.score("It will hold.") > axis.score("It might hold, I think.")
        True

    Attributes:
        high, low: what a high and a low score mean.
        about: the scorer in a sentence.
        score: text -> score; a higher one is nearer to `high`. Scores of different axes have
            different units.
        accuracy: share of 40 labelled pairs, kept apart from tuning, that the scorer ranks rightly,
            with Wilson's interval.
        length_alone: what the better of "shorter" and "longer" ranks rightly of the same pairs.
    """

    high: AxisName
    low: str
    about: str
    score: Scorer = field(repr=False)
    accuracy: Interval
    length_alone: float

    @property
    def name(self) -> str:
        """Both ends: "concise/verbose"."""
        return f"{self.high}/{self.low}"

    @property
    def measurable(self) -> bool:
        """Whether the accuracy on the pairs kept apart is 0.75 at least."""
        return self.accuracy.mean >= LEAST

    def __str__(self) -> str:
        found = self.accuracy
        return (
            f"{self.name}: {self.about}; ranks {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
            f" of {found.n} pairs" + ("" if self.measurable else ": not measurable")
        )


@dataclass(frozen=True)
class StylePair:
    """Two texts that differ along one axis, of our own writing.

    Attributes:
        axis: which. split: "tune" for writing and tuning a scorer, "apart" for judging it.
        high, low: the text nearer to either end.
    """

    axis: AxisName
    split: Literal["tune", "apart"]
    high: str
    low: str


def read_style_pairs(axis: AxisName | None = None, split: str | None = None) -> list[StylePair]:
    """The labelled pairs that the package brings along: for each axis 52 to tune on, 40 kept apart.

    Example:
        >>> pairs = read_style_pairs("direct", "apart")
        >>> len(pairs), pairs[0].high
        (40, 'The kitchen is filthy...')

    To validate a scorer of your own, write it with the "tune" pairs and give it to
    `validate_axis` once.

    Raises:
        DSPAError: no such axis or split.
    """
    if axis is not None:
        check_choice("axis", axis, get_args(AxisName), DSPAError)
    if split is not None:
        check_choice("split", split, ("tune", "apart"), DSPAError)
    lines = (ASSETS / "style_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [StylePair(**json.loads(line)) for line in lines]
    return [one for one in pairs if axis in (None, one.axis) and split in (None, one.split)]


def validate_axis(
    score: Scorer, axis: AxisName, split: Literal["tune", "apart"] = "apart"
) -> Interval:
    """How many labelled pairs a scorer ranks rightly, with Wilson's interval; a tie is no rank.

    Example:
        >>> validate_axis(AXES["concise"].score, "concise").mean
        1.0

    Raises:
        DSPAError: no such axis or split.
    """
    pairs = read_style_pairs(axis, split)
    return proportion([score(pair.high) > score(pair.low) for pair in pairs])


def style_axes(
    texts: str | Iterable[str], axes: Sequence[AxisName] | None = None
) -> dict[str, Float64[np.ndarray, " texts"]]:
    """Score texts on the style axes: axis -> one score per text.

    Example:
        >>> scores = style_axes(["It will hold.", "It might hold, I think."], ["certain"])
        >>> scores["certain"].round(2)
        array([ 0.33, -0.4 ])
        >>> list(style_axes("No text is too short."))
        ['concise', 'friendly', 'direct', 'structured', 'task', 'proactive', 'certain', 'creative']

    Compare scores of one axis only, in the mean over many texts: every scorer counts words and
    marks, and a single short answer may hold none of them. `pandas.DataFrame(style_axes(texts))` is
    a table of them.

    Args:
        texts: answers, or one.
        axes: keys of `AXES`; None takes all that are measurable. One that is not is scored all the
            same when it is named, with a warning.

    Raises:
        DSPAError: no such axis.

    Source: docs/method.md 10 (arXiv 2603.21461) names the axes; scorers are ours.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    measurable = [key for key, axis in AXES.items() if axis.measurable]
    wanted: list[Any] = measurable if axes is None else list(axes)
    scores: dict[str, Any] = {}
    for key in wanted:
        check_choice("axis", key, tuple(AXES), DSPAError)
        axis = AXES[key]
        if not axis.measurable:
            warn(
                f"the axis {axis.name} is not measurable: its scorer ranks {axis.accuracy.mean:.2f}"
                f" of {axis.accuracy.n} labelled pairs rightly, below {LEAST}; leave it out of "
                "what you conclude"
            )
        scores[key] = np.array([axis.score(text) for text in texts], dtype=np.float64)
    return scores


@cache
def _validated() -> dict[str, Any]:
    """What recipes/validate_style_axes.py measured."""
    return json.loads((ASSETS / "style_axes.json").read_text(encoding="utf-8"))


def _axis(high: AxisName, low: str, about: str) -> StyleAxis:
    measured = _validated()[high]
    score: Scorer = getattr(by_words, high)
    accuracy = Interval(**measured["accuracy"])
    return StyleAxis(high, low, about, score, accuracy, measured["length_alone"])


AXES: dict[AxisName, StyleAxis] = {
    axis.high: axis
    for axis in (
        _axis("concise", "verbose", "minus the logarithm of the number of words"),
        _axis("friendly", "professional", "warm less formal words and marks, per word (`warmth`)"),
        _axis("direct", "diplomatic", "blunt words less twice the softeners, per word"),
        _axis(
            "structured", "freeform", "list items, headings, labels and ordinals, per word"
        ),
        _axis(
            "task", "relational", "words of work and numbers less those of people and feelings, "
            "per word",
        ),
        _axis("proactive", "minimal", "offers, next steps and warnings, per word"),
        _axis("certain", "caveated", "words of certainty less hedges and caveats, per word"),
        _axis(
            "creative", "literal", "twice the similes, and images, less numbers and words of "
            "report, per word",
        ),
    )
}  # fmt: skip
