"""Best, median and worst example by effect: where in the texts log p changed, and the answers."""

import difflib
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspa_nn.demo.measure import Outcome, Values
from dspa_nn.demo.show import section
from dspa_nn.evaluation import BOLD, COLOURED, MarginPart
from dspa_nn.triples import DemoRow


def picked(values: Values) -> dict[str, int]:
    """Which triples have the largest, the middle and the smallest change of the margin.

    Example:
        >>> picked({"change": np.array([0.1, -0.3, 0.4, 0.2])})
        {'best': 2, 'median': 0, 'worst': 1}
    """
    order = np.argsort(values["change"], kind="stable")
    places = {"best": len(order) - 1, "median": (len(order) - 1) // 2, "worst": 0}
    return {name: int(order[place]) for name, place in places.items()}


def examples(
    console: Console, rows: Sequence[DemoRow], unsteered: Outcome, steered: Outcome
) -> None:
    """Three triples with the change of log p in their texts, and both answers to their prompts."""
    assert steered.margins is not None
    assert steered.answers is not None
    assert unsteered.answers is not None
    before, after = unsteered.answers.texts, steered.answers.texts
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    section(
        console,
        "Three examples: the best, the median and the worst",
        f"By the change of the margin under the map, of {len(rows)} held-out triples. In brackets "
        "is by how many nats steering made a word more (+) or less (-) likely, where that is most; "
        f"words that changed by {COLOURED} or more are green or red, by {BOLD:.0f} or more bold. "
        "Below are the model's own answers, words that steering took out red, new ones green. "
        f"{changed} of {len(after)} answers changed.",
    )
    for name, index in picked(steered.values).items():
        row, values = rows[index], steered.values
        console.print()
        title = f"{name.capitalize()}: margin {values['change'][index]:+.2f} nats a token"
        console.print(Text.assemble((title, "bold"), f"  ({row.kind}: {row.style} is preferred)"))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        table.add_row("prompt", Text(row.text, style="bold"))
        for part in ("chosen", "rejected"):
            table.add_row(part, _texts(getattr(steered.margins, part), index))
        old, new = compared(before[index], after[index])
        table.add_row("unsteered", old)
        table.add_row("steered", new if before[index] != after[index] else Text("(the same)"))
        console.print(table)


def _texts(part: MarginPart, index: int) -> Text:
    """A response with its changes, then its mean change and edits."""
    text = part.tokens[index].marked()
    text.append(
        f"  ({part.change[index]:+.2f} nats and {part.edits[index]:.1f} edits a token)",
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
