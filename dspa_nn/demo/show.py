"""The demo's figures as a person reads them, in a terminal of 100 columns."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dspa_nn.demo.measure import Outcome
from dspa_nn.demo.verdict import Verdict
from dspa_nn.evaluation.statistics import Interval
from dspa_nn.evaluation.strength import Match
from dspa_nn.triples import DemoRow

EXAMPLES = 3
NARROWEST = 80  # columns of a console: every table fits in so many
_NAME = 21  # columns of a condition's name


def terminal() -> Console:
    """A console on standard output that no table loses a column in: never under 80 columns."""
    console = Console()
    console.width = max(console.width, NARROWEST)
    return console


def section(console: Console, title: str, note: str = "") -> None:
    """A heading, with a line or two of what follows."""
    console.print()
    console.print(Rule(Text(title, style="bold"), align="left", style="dim"))
    if note:
        console.print(Text(note, style="dim"))


def grid(*headers: str, name: str = "", **options: Any) -> Table:
    """An empty table: a column of names, and figures to the right."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), **options)
    made.add_column(name, min_width=_NAME, max_width=_NAME)
    for header in headers:
        made.add_column(header, justify="right", no_wrap=True)
    return made


def examples(
    console: Console, rows: Sequence[DemoRow], unsteered: Outcome, steered: Outcome
) -> None:
    """Prompts with both answers side by side, words that differ highlighted."""
    assert unsteered.answers is not None
    assert steered.answers is not None
    before, after = unsteered.answers.texts, steered.answers.texts
    changed = [place for place in range(len(after)) if before[place] != after[place]]
    section(
        console,
        "Unsteered and steered",
        f"{len(changed)} of {len(after)} answers changed; these are the first held-out prompts "
        "of those, not picked further.",
    )
    for place in changed[:EXAMPLES]:
        row = rows[place]
        side = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1))
        side.add_column("unsteered", ratio=1)
        side.add_column("steered", ratio=1)
        side.add_row(*compared(before[place], after[place]))
        wanted = (f"  {row.kind}: {row.style} is preferred", "dim")
        console.print(Text.assemble("\n", (row.text, "bold"), wanted))
        console.print(side)


def compared(before: str, after: str) -> tuple[Text, Text]:
    """Both texts with the words that are not in the other one highlighted.

    >>> [text.plain for text in compared("so it is", "so it was")]
    ['so it is', 'so it was']
    """
    words = before.split(), after.split()
    texts = Text(), Text()
    matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        for text, own, start, stop, style in (
            (texts[0], words[0], a, b, "red"),
            (texts[1], words[1], c, d, "bold green"),
        ):
            for word in own[start:stop]:
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
    made = grid("edits", *(f"on {kind} prompts" for kind in by_kind), name="output latent")
    for latent, times in total[:most]:
        each = [str(own.get(latent, 0)) for own in by_kind.values()]
        made.add_row(str(latent), str(times), *each)
    console.print(made)


def tables(
    console: Console, outcomes: Sequence[Outcome], rows: Sequence[DemoRow], seed: int
) -> None:
    """The measured effect: teacher-forced margins, then what can be read off the answers."""
    kinds = ("", *sorted({row.kind for row in rows}))
    section(
        console,
        "Effect on the margin",
        f"log p(chosen) - log p(rejected), nats a token, over {len(rows)} held-out triples: the "
        "change that\nsteering makes. Edits, norm of the change and KL(unsteered || steered) are a "
        "token.\nBelow each mean its 95 % bootstrap interval.",
    )
    made = grid(*(kind or "all prompts" for kind in kinds), "edits", "norm")
    for own in outcomes[1:]:
        made.add_row(
            own.name,
            *(cell(own.interval("change", seed, rows, kind)) for kind in kinds),
            cell(own.interval("edits", seed, rows), _two),
            cell(own.interval("norm", seed, rows), _one),
        )
    console.print(made)
    section(
        console,
        "Effect on the answers",
        "Style: warm less formal marks a word, signed so that more is what is preferred, less the "
        "unsteered\nanswer's. Perplexity is the unsteered model's, as a ratio to that of its own "
        "answers.",
    )
    made = grid("n", *(f"style, {kind or 'all'}" for kind in kinds), "tokens")
    for own in outcomes:
        made.add_row(
            own.name,
            str(len(own.values["style"])),
            *(cell(own.interval("style_change", seed, rows, kind), _signed) for kind in kinds),
            cell(own.interval("tokens", seed, rows), _one),
        )
    console.print(made)
    made = grid("distinct-1", "distinct-2", "perplexity ratio", "KL a token")
    for own in outcomes:
        made.add_row(
            own.name,
            *(cell(own.interval(f"distinct_{n}", seed, rows), _two) for n in (1, 2)),
            cell(own.interval("log_perplexity_change", seed, rows).exp(), _two),
            cell(own.interval("kl", seed, rows), "{:.3f}".format)
            if own is not outcomes[0]
            else Text("-"),
        )
    console.print(made)


def _one(value: float) -> str:
    return f"{value:.1f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _two(value: float) -> str:
    return f"{value:.2f}"


def cell(found: Interval, form: Callable[[float], str] = "{:+.3f}".format) -> Text:
    """A mean above its interval."""
    if not found.n:
        return Text("-", style="dim")
    text = Text(form(found.mean))
    text.append(f"\n{form(found.low)} {form(found.high)}", style="dim")
    return text


def matches(console: Console, found: Mapping[str, Match]) -> None:
    """How near each control came to the map's strength on the development triples."""
    section(
        console,
        "Strength of the controls",
        "k_diff, then alpha, were chosen on development triples to edit as often and as far as "
        "the map\n(its figures in brackets).",
    )
    made = grid("k_diff", "alpha", "edits a token", "norm", "within 10 %")
    for name, own in found.items():
        made.add_row(
            name,
            str(own.k_diff),
            f"{own.alpha:.2f}",
            f"{own.edits:.2f} ({own.wanted_edits:.2f})",
            f"{own.norm:.1f} ({own.wanted_norm:.1f})",
            "yes" if own.within else "no: the nearest",
        )
    console.print(made)


def paired(console: Console, found: Mapping[str, Interval], names: Mapping[str, str]) -> None:
    """Paired differences in the change of the margin."""
    section(console, "The map less each control", "Change of the margin, paired by triple.")
    made = grid("difference a token", "95 % interval")
    for key, own in found.items():
        made.add_row(names[key], f"{own.mean:+.4f}", f"{own.low:+.4f} to {own.high:+.4f}")
    console.print(made)


def judged(console: Console, found: Sequence[Verdict]) -> None:
    """The verdicts, one a line."""
    section(console, "What this says")
    for verdict in found:
        mark = Text("yes", style="bold green") if verdict.holds else Text(" no", style="bold red")
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, Text(verdict.text))
        console.print(line)


def timings(console: Console, seconds: Mapping[str, float], memory: float) -> None:
    """Seconds of each stage, and the most memory that was held."""
    parts = ", ".join(f"{name} {own:.0f} s" for name, own in seconds.items())
    total = sum(seconds.values())
    console.print()
    console.print(Text(f"{parts}: {total:.0f} s, at most {memory:.1f} GB", style="dim"))
