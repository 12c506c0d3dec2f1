"""The demo's figures as a person reads them: whole in 80 columns, on a terminal or in a pipe."""

import difflib
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dspa_nn.demo.measure import Outcome
from dspa_nn.demo.verdict import Verdict
from dspa_nn.evaluation import Interval, Match
from dspa_nn.triples import DemoRow

EXAMPLES = 3
# Columns of a console: every table fits in the fewest, and prose is no wider than the most.
NARROWEST, WIDEST = 80, 100
_NAME = 21  # columns of a method's name


def terminal() -> Console:
    """A console on standard output that no table loses a column in: from 80 to 100 columns.

    Example:
        >>> 80 <= terminal().width <= 100
        True
    """
    console = Console()
    console.width = min(max(console.width, NARROWEST), WIDEST)
    return console


def section(console: Console, title: str, text: str = "") -> None:
    """A heading, with a line or two on what follows."""
    console.print()
    console.print(Rule(Text(title, style="bold"), align="left", style="dim"))
    if text:
        note(console, text)


def note(console: Console, text: str) -> None:
    """A remark, dimmed."""
    console.print(Text(text, style="dim"))


def grid(*headers: str, name: str = "") -> Table:
    """An empty table: a column of names, and figures to the right that are never cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column(name, min_width=_NAME, max_width=_NAME)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True, overflow="fold")
    return table


def examples(
    console: Console, rows: Sequence[DemoRow], unsteered: Outcome, steered: Outcome
) -> None:
    """Prompts with both answers side by side, words that differ highlighted."""
    assert unsteered.answers is not None
    assert steered.answers is not None
    before, after = unsteered.answers.texts, steered.answers.texts
    changed = [index for index in range(len(after)) if before[index] != after[index]]
    section(
        console,
        "Unsteered and steered",
        f"{len(changed)} of {len(after)} answers changed. Below are the first of them, in "
        "the order of the held-out prompts; none was picked by hand.",
    )
    for index in changed[:EXAMPLES]:
        row = rows[index]
        side = Table(box=box.SIMPLE_HEAD, expand=True, show_edge=False, pad_edge=False)
        side.add_column("unsteered", ratio=1)
        side.add_column("steered", ratio=1)
        side.add_row(*compared(before[index], after[index]))
        wanted = (f"  ({row.kind}: the {row.style} answer is preferred)", "dim")
        console.print(Text.assemble("\n", (row.text, "bold"), wanted))
        console.print(side)


def compared(before: str, after: str) -> tuple[Text, Text]:
    """Both texts with the words that are not in the other one highlighted.

    Example:
        >>> [text.plain for text in compared("so it is", "so it was")]
        ['so it is', 'so it was']
    """
    words = before.split(), after.split()
    texts = Text(), Text()
    matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        for text, side, start, stop, style in (
            (texts[0], words[0], a, b, "red"),
            (texts[1], words[1], c, d, "bold green"),
        ):
            for word in side[start:stop]:
                text.append(" " if text.plain else "")
                text.append(word, style=None if tag == "equal" else style)
    return texts


def latents(
    console: Console,
    steered: Outcome,
    by_kind: Mapping[str, Mapping[int, int]],
    most: int = 10,
) -> None:
    """Which output latents were edited how often in the answers, by kind of prompt."""
    assert steered.answers is not None
    total = list(steered.answers.by_latent().items())
    section(
        console,
        "What was edited",
        f"{sum(times for _, times in total)} edits of {len(total)} output latents in "
        f"{len(steered.answers.texts)} answers; the {min(most, len(total))} edited most often:",
    )
    table = grid("edits", *(f"on {kind} prompts" for kind in by_kind), name="output latent")
    for latent, times in total[:most]:
        each = [str(edits.get(latent, 0)) for edits in by_kind.values()]
        table.add_row(str(latent), str(times), *each)
    console.print(table)


def margins(
    console: Console, outcomes: Sequence[Outcome], rows: Sequence[DemoRow], seed: int
) -> None:
    """The change of the margin, over all triples and for each kind of prompt."""
    kinds = ("", *sorted({row.kind for row in rows}))
    section(
        console,
        "Effect on the margin",
        "By how much steering changes log p(chosen) - log p(rejected), in nats per token, over "
        f"{len(rows)} held-out triples. Below each mean is its 95 % bootstrap interval.",
    )
    table = grid(*(kind or "all prompts" for kind in kinds))
    for outcome in outcomes[1:]:
        intervals = (outcome.interval("change", seed, rows, kind) for kind in kinds)
        table.add_row(outcome.name, *map(cell, intervals))
    console.print(table)


def strength(
    console: Console, outcomes: Sequence[Outcome], rows: Sequence[DemoRow], seed: int
) -> None:
    """How much was edited, and how far the next-token distributions moved."""
    section(
        console,
        "How much was edited",
        "Per token of the held-out responses: output latents edited, the change of the residual "
        "stream as a share of its norm, and KL(unsteered || steered) in nats.",
    )
    table = grid("edits", "moved", "KL")
    for outcome in outcomes[1:]:
        table.add_row(
            outcome.name,
            cell(outcome.interval("edits", seed, rows), "{:.2f}".format),
            cell(outcome.interval("share", seed, rows), "{:.1%}".format),
            cell(outcome.interval("kl", seed, rows), "{:.3f}".format),
        )
    console.print(table)


def answers(
    console: Console, outcomes: Sequence[Outcome], rows: Sequence[DemoRow], seed: int
) -> None:
    """What can be read off the answers: their style, and how fluent they are."""
    kinds = ("", *sorted({row.kind for row in rows}))
    section(
        console,
        "Effect on the answers",
        "Style: warm minus formal marks per word, with the sign turned where formal is preferred. "
        "Shown is its change against the unsteered answer; above 0 is towards what is preferred.",
    )
    table = grid("answers", *(f"style,\n{kind or 'all'}" for kind in kinds))
    for outcome in outcomes[1:]:
        intervals = (outcome.interval("style_change", seed, rows, kind) for kind in kinds)
        cells = (cell(interval, "{:+.2f}".format) for interval in intervals)
        table.add_row(outcome.name, str(len(outcome.values["style"])), *cells)
    console.print(table)
    console.print()
    note(
        console,
        "Tokens per answer, share of different tokens and pairs of tokens, and perplexity under "
        "the unsteered model, as a ratio to that of its own answers.",
    )
    table = grid("tokens", "distinct\n1-grams", "distinct\n2-grams", "perplexity\nratio")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            cell(outcome.interval("tokens", seed, rows), "{:.1f}".format),
            *(cell(outcome.interval(f"distinct_{n}", seed, rows), "{:.2f}".format) for n in (1, 2)),
            cell(outcome.interval("log_perplexity_change", seed, rows).exp(), "{:.2f}".format),
        )
    console.print(table)


def cell(interval: Interval, form: Callable[[float], str] = "{:+.3f}".format) -> Text:
    """A mean above its interval.

    Example:
        >>> print(cell(Interval(0.5, 0.25, 0.75, 10)).plain)
        +0.500
        +0.250 +0.750
    """
    if not interval.n:
        return Text("-", style="dim")
    text = Text(form(interval.mean))
    text.append(f"\n{form(interval.low)} {form(interval.high)}", style="dim")
    return text


def matches(console: Console, by_control: Mapping[str, Match]) -> None:
    """How near each control came to the map's strength on the development triples."""
    section(
        console,
        "Strength of the controls",
        "k_diff, then alpha, were chosen on development triples to edit as often and as far as "
        "the map (its figures in brackets), or as nearly as can be.",
    )
    table = grid("k_diff", "alpha", "edits\nper token", "moved", "within\n10 %")
    for name, match in by_control.items():
        table.add_row(
            name,
            str(match.k_diff),
            f"{match.alpha:.2f}",
            f"{match.edits:.2f} ({match.wanted_edits:.2f})",
            f"{match.share:.1%} ({match.wanted_share:.1%})",
            "yes" if match.within else "no",
        )
    console.print(table)


def paired(console: Console, gaps: Mapping[str, Interval], names: Mapping[str, str]) -> None:
    """Paired differences in the change of the margin."""
    section(
        console,
        "The map less each control",
        "Change of the margin, paired by triple, in nats per token.",
    )
    table = grid("difference", "95 % interval")
    for key, gap in gaps.items():
        table.add_row(names[key], f"{gap.mean:+.4f}", f"{gap.low:+.4f} to {gap.high:+.4f}")
    console.print(table)


def judged(console: Console, verdicts: Sequence[Verdict]) -> None:
    """The verdicts, one per line."""
    section(console, "What this says")
    for verdict in verdicts:
        mark = Text("yes", style="bold green") if verdict.holds else Text(" no", style="bold red")
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, Text(verdict.text))
        console.print(line)


def timings(console: Console, seconds: Mapping[str, float], memory: float) -> None:
    """Seconds of each stage, and the most memory that was held."""
    parts = ", ".join(f"{name} {elapsed:.0f} s" for name, elapsed in seconds.items())
    console.print()
    note(console, f"{parts}: {sum(seconds.values()):.0f} s, at most {memory:.1f} GB")
