"""What the figures say of every row of the tables, in sentences that turn out either way."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspa_nn.demo.measure import kinds_of, of_kind
from dspa_nn.demo.sets import DemoSet, TextScore
from dspa_nn.demo.show import NAME, section
from dspa_nn.evaluation import Interval, Outcome
from dspa_nn.receipt import Verdict, fluency_claim, margin_claim, parts_of
from dspa_nn.triples import DemoRow


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
    for kind in ("", *kinds_of(rows)):
        yield margin_claim(outcome.name, outcome.effect(seed, of_kind(rows, kind)), kind)
    change = outcome.interval("score_change", seed)
    does = "move" if change.above_zero else "do not move"
    told = _in(score, change)
    text = f"Its answers {does} towards what is preferred: {score.name} {told}."
    yield Verdict(outcome.name, "", "score", "", change.above_zero, text, told)
    yield fluency_claim(outcome.name, outcome.interval("log_perplexity_change", seed).exp())


# The map against another method, by claim: where it holds and where it does not.
_CLAIMS = {
    ("beats", True): "The map's change of the margin is above that of",
    ("beats", False): "The map's change of the margin is not above that of",
    ("better score", True): "Its answers move further than those of",
    ("better score", False): "Its answers do not move further than those of",
}


def _against(map: Outcome, other: Outcome, score: TextScore, seed: int) -> Iterator[Verdict]:
    """Whether the map does better than another method on the same triples."""
    gap, change = map.less(other, seed), map.gap("score_change", other, seed)
    for claim, holds, told in (
        ("beats", gap.margin.above_zero, parts_of(gap, "")),
        ("better score", change.above_zero, _in(score, change)),
    ):
        text = f"{_CLAIMS[claim, holds]} {other.name}: {told}."
        yield Verdict(map.name, other.name, claim, "", holds, text, told)


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
        'Nats per token of the margin, and of its two parts; "did not change" means that the 95 % '
        "interval holds 0.",
    )
    table = Table.grid(padding=(0, 1))
    map = verdicts[0].about
    for verdict in verdicts:
        if verdict.about == map and not verdict.against:
            _line(table, bool(verdict.holds), verdict.text)
    for (claim, holds), lead in _CLAIMS.items():
        told = [v for v in verdicts if (v.claim, v.holds) == (claim, holds)]
        if told:
            listed = "\n".join(f"{v.against:<{NAME}} {v.figures}" for v in told)
            _line(table, holds, f"{lead}\n{listed}")
    console.print(table)
    for name in dict.fromkeys(verdict.about for verdict in verdicts if verdict.about != map):
        texts = (verdict.text for verdict in verdicts if verdict.about == name)
        console.print(Text.assemble("\n", (name, "bold"), ". ", " ".join(texts)))


def _line(table: Table, holds: bool, text: str) -> None:
    mark = Text("yes", style="bold green") if holds else Text(" no", style="bold red")
    table.add_row(mark, Text(text))
