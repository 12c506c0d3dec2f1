"""What the figures say of every row of the tables, in sentences that turn out either way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspa_nn.demo.measure import Outcome, kinds_of
from dspa_nn.demo.sets import DemoSet, TextScore
from dspa_nn.demo.show import section
from dspa_nn.evaluation import Effect, Interval
from dspa_nn.triples import DemoRow

HIGHEST_PERPLEXITY_RATIO = 1.3


@dataclass(frozen=True)
class Verdict:
    """A claim and whether the figures bear it out.

    Attributes:
        about: the method that it is about; `against`: what that is compared with, or nothing.
        claim: "margin", "score", "fluent", "beats" or "better score".
        kind: of prompts; all where it is empty.
        holds: whether the claim does.
        text: a sentence that says so, with the figures.
    """

    about: str
    against: str
    claim: str
    kind: str
    holds: bool
    text: str


def verdicts(
    outcomes: Sequence[Outcome], rows: Sequence[DemoRow], shown: DemoSet, seed: int
) -> list[Verdict]:
    """Judge every method by itself, and the map against every other one.

    outcomes: unsteered, the map, then whatever it is compared with.
    """
    _, map, *others = outcomes
    judged = list(_of_method(map, rows, shown.score, seed))
    for other in others:
        judged += _against(map, other, shown.score, seed)
    for other in others:
        judged += _of_method(other, rows, shown.score, seed)
    return judged


def _of_method(
    outcome: Outcome, rows: Sequence[DemoRow], score: TextScore, seed: int
) -> Iterator[Verdict]:
    """What one method did to the margin, over all prompts and each kind, and to its answers."""
    make = _maker(outcome.name)
    for kind in ("", *kinds_of(rows)):
        found = outcome.effect(seed, rows, kind)
        where = f"On {kind} prompts the" if kind else "The"
        clause = found.moved().removeprefix("the")
        text = f"{where}{clause} ({_parts(found)})."
        yield make("margin", kind, found.margin.above_zero, text)
    change = outcome.interval("score_change", seed, rows)
    does = "move" if change.above_zero else "do not move"
    text = f"Its answers {does} towards what is preferred: {score.name} {_in(score, change)}."
    yield make("score", "", change.above_zero, text)
    ratio = outcome.interval("log_perplexity_change", seed, rows).exp()
    fluent = ratio.mean <= HIGHEST_PERPLEXITY_RATIO
    text = (
        f"Its answers {'stay' if fluent else 'do not stay'} fluent: perplexity under the unsteered "
        f"model {ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times that of the unsteered "
        f"answers, where {HIGHEST_PERPLEXITY_RATIO} is the limit."
    )
    yield make("fluent", "", fluent, text)


def _against(map: Outcome, other: Outcome, score: TextScore, seed: int) -> Iterator[Verdict]:
    """Whether the map does better than another method on the same triples."""
    make = _maker(map.name, other.name)
    gap = map.less(other, seed)
    beats = "beats" if gap.margin.above_zero else "does not beat"
    text = f"The map {beats} {other.name} in the margin ({_parts(gap)})."
    yield make("beats", "", gap.margin.above_zero, text)
    change = map.gap("score_change", other, seed)
    more = "move" if change.above_zero else "do not move"
    text = f"Its answers {more} further than those of {other.name}: {_in(score, change)}."
    yield make("better score", "", change.above_zero, text)


def _maker(about: str, against: str = "") -> Callable[[str, str, bool, str], Verdict]:
    def make(claim: str, kind: str, holds: bool, text: str) -> Verdict:
        return Verdict(about, against, claim, kind, holds, text)

    return make


def _parts(found: Effect) -> str:
    return f"{found.margin}; chosen {found.chosen.mean:+.3f}, rejected {found.rejected.mean:+.3f}"


def _in(score: TextScore, change: Interval) -> str:
    low, mean, high = (
        f"{value:+.{score.digits + 1}f}" for value in (change.low, change.mean, change.high)
    )
    return f"{mean} [{low}, {high}] {score.unit}"


def judged(console: Console, verdicts: Sequence[Verdict]) -> None:
    """The verdicts: the map's own, then the map against the others, then the others' own."""
    section(
        console,
        "What this says",
        '"Did not change" means that the 95 % interval holds 0.',
    )
    heading = ""
    for verdict in verdicts:
        title = f"{verdict.about}, against the others" if verdict.against else verdict.about
        if title != heading:
            heading = title
            console.print(Text(f"\n{heading}", style="bold"))
        mark = Text("yes", style="bold green") if verdict.holds else Text(" no", style="bold red")
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, Text(verdict.text))
        console.print(line)
