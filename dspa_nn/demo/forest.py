"""One forest plot: the map against its controls, chosen and rejected apart, as text and as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from dspa_nn.demo.show import note, section
from dspa_nn.evaluation import Interval, Outcome
from dspa_nn.files import write_atomically
from dspa_nn.imports import untyped

# Of middle lightness, so that they can be told on white and on black.
_BLUE, _ORANGE, _GREY = "#3b8ad8", "#d9772b", "#828282"
_LABELS = 31  # columns before the plot


class Line(NamedTuple):
    """One interval of the plot: of a method's chosen or rejected texts."""

    name: str
    part: str
    change: Interval


def lines_of(outcomes: Sequence[Outcome], seed: int) -> list[Line]:
    """Two lines for every method."""
    lines: list[Line] = []
    for outcome in outcomes:
        found = outcome.effect(seed)
        lines += [Line(outcome.name, "chosen", found.chosen)]
        lines += [Line(outcome.name, "rejected", found.rejected)]
    return lines


def printed(console: Console, lines: Sequence[Line]) -> None:
    """The plot as text, as wide as the console."""
    section(
        console,
        "Map and controls at a glance",
        "Change of log p per token, mean and 95 % interval. What is wanted: chosen to the right, "
        "rejected to the left.",
    )
    for text in drawn(lines, console.width, plain=console.options.ascii_only):
        console.print(text, no_wrap=True, overflow="crop")


def drawn(lines: Sequence[Line], width: int, *, plain: bool = False) -> list[Text]:
    """Lines of text, `width` columns wide; plain uses ASCII alone."""
    bar, zero, marks = ("-", "|", "ox") if plain else ("─", "│", "●◆")
    low = min([0.0, *(line.change.low for line in lines)])
    high = max([0.0, *(line.change.high for line in lines)])
    columns = width - _LABELS - 1
    scale = (columns - 1) / ((high - low) or 1.0)

    def at(value: float) -> int:
        return round((value - low) * scale)

    drawing: list[Text] = []
    for line in lines:
        cells = [" "] * columns
        cells[at(0.0)] = zero
        for place in range(at(line.change.low), at(line.change.high) + 1):
            cells[place] = bar
        chosen = line.part == "chosen"
        cells[at(line.change.mean)] = marks[0 if chosen else 1]
        text = Text(f"{line.name if chosen else '':<{_LABELS - 9}}{line.part:<9}")
        text.append("".join(cells), style="blue" if chosen else "yellow")
        drawing.append(text)
    ends = [" "] * columns
    labels = {low: f"{low:+.2f}", 0.0: "0", high: f"{high:+.2f}"}
    for value, label in labels.items():
        start = min(max(at(value) - len(label) // 2, 0), columns - len(label))
        if not "".join(ends[max(start - 1, 0) : start + len(label) + 1]).strip():
            ends[start : start + len(label)] = label
    drawing.append(Text(" " * _LABELS + "".join(ends), style="dim"))
    return drawing


def pictured(console: Console, lines: Sequence[Line], path: Path) -> bool:
    """The plot as PNG; where matplotlib is missing, a note in its place."""
    try:
        untyped("matplotlib")
    except ImportError:
        note(console, "No picture: pip install 'dspa-nn[demo]' brings matplotlib, which draws it.")
        return False
    write_atomically(path, _png(lines))
    return True


def _png(lines: Sequence[Line]) -> bytes:
    from io import BytesIO

    figures: Any = untyped("matplotlib.figure")
    names = list(dict.fromkeys(line.name for line in lines))
    figure = figures.Figure(figsize=(8, 1.1 + 0.55 * len(names)), layout="constrained")
    axis = figure.subplots()
    looks = {"chosen": (_BLUE, "o", -0.16), "rejected": (_ORANGE, "D", 0.16)}
    for line in lines:
        colour, marker, shift = looks[line.part]
        height = names.index(line.name) + shift
        axis.plot(
            [line.change.low, line.change.high], [height] * 2,
            color=colour, linewidth=2.5, solid_capstyle="round",
        )  # fmt: skip
        axis.plot(
            [line.change.mean], [height], marker, color=colour, markersize=7,
            label=f"{line.part} text" if line.name == names[0] else None,
        )  # fmt: skip
    axis.axvline(0, color=_GREY, linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(
        "change of log p, nats per token (mean and 95 % interval)\n"
        "wanted: chosen to the right of 0, rejected to the left",
        color=_GREY,
    )
    axis.tick_params(colors=_GREY, labelcolor=_GREY)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=_GREY, alpha=0.3)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GREY)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, labelcolor=_GREY)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=150, transparent=True)
    return file.getvalue()
