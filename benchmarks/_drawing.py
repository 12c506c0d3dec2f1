"""What the documentation's figures share: tables of the appendix, and how a panel looks.

    rows = tables("costs")[0]                  # the first table of docs/appendix/costs.md
    figure, axes = panels(2, (8, 3.4))         # two panels in the style of the documentation

The background is transparent and the colours are of middle lightness, legible on white and on
black.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
BLUE, ORANGE, GREEN, GREY = "#3b8ad8", "#d9772b", "#2a9d7c", "#828282"
Table = list[dict[str, str]]


def tables(page: str) -> list[Table]:
    """The Markdown tables of an appendix page in order, each row by its headings."""
    text = (DOCS / "appendix" / f"{page}.md").read_text(encoding="utf-8")
    parsed = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.splitlines()
        ]
        parsed.append([dict(zip(head, row, strict=True)) for row in rows])
    return parsed


def numbers(cell: str) -> list[float]:
    """The numbers of a cell: "+0.197 [+0.170, +0.223]" is a mean and its interval.

    >>> numbers("+0.197 [+0.170, +0.223]")
    [0.197, 0.17, 0.223]
    """
    return [
        float(part.replace(",", "")) for part in re.findall(r"[+-]?\d(?:[\d,]*\d)?(?:\.\d+)?", cell)
    ]


def value(cell: str) -> float:
    """The first number of a cell."""
    return numbers(cell)[0]


def panels(
    columns: int, size: tuple[float, float], rows: int = 1, **options: Any
) -> tuple[Any, Any]:
    """A figure and its axes, row after row, in the style of the documentation."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update(
        {
            "svg.fonttype": "none",  # text stays text: the file is a quarter of the size
            "svg.hashsalt": "dspa_nn",
            "font.size": 10.5,
            "lines.linewidth": 2,
            "savefig.transparent": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": GREY,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "legend.labelcolor": GREY,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
                GREY,
            ),
        }
    )
    figure, axes = pyplot.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )
    return figure, axes.flatten()


def name_lines(axis: Any, names: Sequence[str]) -> None:
    """One line per name, first on top, told apart by their names alone."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)


def intervals(
    axis: Any, names: Sequence[str], cells: Sequence[str], colours: Sequence[str]
) -> None:
    """One line per name, first on top: a mean as a dot, its interval as a bar."""
    for line, (cell, colour) in enumerate(zip(cells, colours, strict=True)):
        mean, *interval = numbers(cell)
        if interval:
            axis.plot(interval[:2], [line, line], color=colour, solid_capstyle="round")
        axis.plot([mean], [line], "o", color=colour, markersize=7)
    name_lines(axis, names)
