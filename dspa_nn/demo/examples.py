"""Best, median and worst example by effect: where in texts log p changed, and answers."""

import difflib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspa_nn.demo.sets import TextScore
from dspa_nn.demo.show import section
from dspa_nn.evaluation import BOLD, COLOURED, MarginPart, Outcome
from dspa_nn.triples import DemoRow


def picked(change: Float64[np.ndarray, " n"]) -> dict[str, int]:
    """Where the largest, the middle and the smallest change is.

    Example:
        >>> picked(np.array([0.1, -0.3, 0.4, 0.2]))
        {'best': 2, 'median': 0, 'worst': 1}
    """
    order = np.argsort(change, kind="stable")
    places = {"best": len(order) - 1, "median": (len(order) - 1) // 2, "worst": 0}
    return {name: int(order[place]) for name, place in places.items()}


def texts(console: Console, rows: Sequence[DemoRow], steered: Outcome) -> None:
    """Three held-out triples, with the change of log p of every word of either text."""
    assert steered.margins is not None
    section(
        console,
        "Three pairs of texts: the best, the median and the worst",
        f"By the change of the margin under the map, of {len(rows)} held-out triples. In brackets "
        "is by how many nats steering made a word more (+) or less (-) likely, where that is most; "
        f"words that changed by {COLOURED} or more are green or red, by {BOLD:.0f} or more bold.",
    )
    for name, index in picked(steered.values["change"]).items():
        change = steered.values["change"][index]
        table = _titled(console, f"{name}: margin {change:+.2f} nats a token", rows[index])
        for part in ("chosen", "rejected"):
            table.add_row(part, _texts(getattr(steered.margins, part), index))
        console.print(table)


def answers(
    console: Console,
    rows: Sequence[DemoRow],
    unsteered: Outcome,
    steered: Outcome,
    score: TextScore,
) -> None:
    """Three of the answers that steering changed, by how far that is towards what is preferred."""
    assert steered.answers is not None
    assert unsteered.answers is not None
    before, after = unsteered.answers.texts, steered.answers.texts
    changed = [index for index in range(len(after)) if before[index] != after[index]]
    section(
        console,
        "Three answers: the best, the median and the worst",
        f"{len(changed)} of {len(after)} answers changed. Of these, by the change of their "
        f"{score.name}, signed so that more is what is preferred; words that steering took out are "
        "red, new ones green.",
    )
    if not changed:
        return
    moved = steered.values["score_change"]
    for name, place in picked(moved[changed]).items():
        index = changed[place]
        title = f"{name}: {score.name} {moved[index]:+.{score.digits}f} {score.unit}"
        table = _titled(console, title, rows[index])
        for label, text in zip(
            ("unsteered", "steered"), compared(before[index], after[index]), strict=True
        ):
            table.add_row(label, text)
        console.print(table)


def _titled(console: Console, title: str, row: DemoRow) -> Table:
    """A bold title and what is preferred, and a table that opens with the prompt."""
    console.print()
    title = title[0].upper() + title[1:]
    console.print(Text.assemble((title, "bold"), f"  ({row.kind}: {row.style} is preferred)"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("prompt", Text(row.text, style="bold"))
    return table


def _texts(part: MarginPart, index: int) -> Text:
    """A response with its changes, then its mean change and edits."""
    text = part.tokens[index].marked()
    change = round(float(part.change[index]), 2) + 0.0  # no -0.00
    text.append(
        f"  ({change:+.2f} nats and {part.edits[index]:.1f} edits a token)",
        style="dim",
    )
    return text


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
