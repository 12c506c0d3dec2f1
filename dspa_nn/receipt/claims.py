"""Claims about what was measured, each with whether the figures bear it out, in a sentence.

A claim says "yes" where the whole 95 % interval is on its side, "no" where it is on the other, and
is open where the interval holds both, or is of too few values.
"""

from dataclasses import dataclass
from typing import Any

from dspa_nn.evaluation import Effect, Interval

HIGHEST_PERPLEXITY_RATIO = 1.3
# What multiple choice and the share of different pairs of tokens may lose and still count as kept.
POINTS, DISTINCT = 0.02, 0.05
# Five values fall on one side of any middle one time in sixteen, six one in thirty-two. A bootstrap
# of fewer than six is too sure: all its draws are on their side.
LEAST = 6


@dataclass(frozen=True)
class Verdict:
    """A claim and whether the figures bear it out.

    Attributes:
        about: the method that it is about; `against`: what that is compared with, or nothing.
        claim: what is claimed, in a word or two, such as "margin" or "beats".
        kind: of prompts, or the score or rewriting that it is claimed for; all where it is empty.
        holds: whether the claim does; None where the figures cannot tell.
        text: a sentence that says so, with the figures.
        figures: these alone.
    """

    about: str
    against: str
    claim: str
    kind: str
    holds: bool | None
    text: str
    figures: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dict(vars(self))


def parts_of(found: Effect, mark: str = ";") -> str:
    """An effect in figures: the margin with its interval, and its two parts.

    Example:
        >>> from dspa_nn.evaluation import effect
        >>> parts_of(effect([0.1, 0.1], [0.0, 0.0]))
        '+0.100 [+0.100, +0.100]; chosen +0.100, rejected +0.000'
    """
    chosen, rejected = found.chosen.mean, found.rejected.mean
    return f"{found.margin}{mark} chosen {chosen:+.3f}, rejected {rejected:+.3f}"


def margin_claim(about: str, found: Effect, kind: str = "") -> Verdict:
    """That a method raises the margin; the sentence says which part moved.

    Example:
        >>> from dspa_nn.evaluation import effect
        >>> margin_claim("the map", effect([0.1, 0.1], [0.0, 0.0])).text
        'The margin rose because the chosen text became more likely; the rejected one did not
        change: +0.100 [+0.100, +0.100]; chosen +0.100, rejected +0.000.'
    """
    where = f"On {kind} prompts " if kind else ""
    sentence = f"{where}{found.moved()}: {parts_of(found)}."
    text = sentence[0].upper() + sentence[1:]
    return Verdict(about, "", "margin", kind, found.margin.above_zero, text, parts_of(found))


def fluency_claim(about: str, ratio: Interval) -> Verdict:
    """That answers stay fluent: their perplexity's ratio is, in the mean, within the limit.

    Example:
        >>> fluency_claim("the map", Interval(1.1, 1.0, 1.2, 9)).figures
        '1.10 [1.00, 1.20]'
    """
    fluent = ratio.mean <= HIGHEST_PERPLEXITY_RATIO
    told = f"{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    text = (
        f"They {'stay' if fluent else 'do not stay'} fluent: perplexity under the unsteered model "
        f"{told} times that of its own answers, where {HIGHEST_PERPLEXITY_RATIO} is the limit."
    )
    return Verdict(about, "", "fluent", "", fluent, text, told)


def lies_above(interval: Interval, limit: float = 0.0) -> bool | None:
    """Whether an interval lies above a limit: False where it lies below, None where it holds it.

    Example:
        >>> lies_above(Interval(1.0, 0.5, 1.5, 9)), lies_above(Interval(0.1, -0.5, 0.7, 9))
        (True, None)
        >>> print(lies_above(Interval(1.0, 0.5, 1.5, 5)))
        None

    Of fewer than `LEAST` values none can be told.
    """
    if interval.n < LEAST:
        return None
    if interval.low > limit:
        return True
    return False if interval.high < limit else None


def lies_below(interval: Interval, limit: float) -> bool | None:
    """Whether an interval lies below a limit: False where it lies above, None where it holds it.

    >>> lies_below(Interval(0.1, 0.0, 0.2, 9), 0.5)
    True
    """
    above = lies_above(interval, limit)
    return None if above is None else not above


def too_few(interval: Interval, what: str) -> str:
    """What to add to a claim that so few values cannot bear out; nothing where they can.

    >>> too_few(Interval(1.0, 0.5, 1.5, 5), "prompts"), too_few(Interval(1.0, 0.5, 1.5, 6), "")
    (' (5 prompts are too few to tell)', '')
    """
    return f" ({interval.n} {what} are too few to tell)" if interval.n < LEAST else ""


def in_words(holds: bool | None, yes: str, no: str, unknown: str) -> str:
    """The words for whether a claim holds.

    >>> in_words(None, "is", "is not", "may be")
    'may be'
    """
    return unknown if holds is None else yes if holds else no


def percent(share: Interval) -> str:
    """A share with its interval, in %.

    >>> percent(Interval(0.25, 0.1, 0.5, 8))
    '25 % [10, 50]'
    """
    return f"{100 * share.mean:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def points(change: Interval) -> str:
    """A change of a share with its interval, in points of a hundred.

    >>> points(Interval(-0.01, -0.03, 0.0, 8))
    '-1.0 [-3.0, +0.0]'
    """
    ends = (change.mean, change.low, change.high)
    mean, low, high = (f"{100 * value + 0.0:+.1f}" for value in ends)
    return f"{mean} [{low}, {high}]"
