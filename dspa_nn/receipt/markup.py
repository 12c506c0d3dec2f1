"""Pieces of the page: a table whose rows have an interval drawn in them, and the style sheet.

Nothing is fetched when the page is opened. Intervals are drawn in per cent of their cell, so that
they fit a telephone and a wide screen alike, in colours that the page's own light or dark scheme
gives them.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dspa_nn.evaluation import Interval

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --dim: #5b6475; --line: #d6dae3; --page: #ffffff;
  --soft: #f3f5f9; --bar: #2f6fc0; --yes: #1a7a43; --no: #b3261e; --open: #7a5c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --dim: #a3abbd; --line: #3a4152;
  --page: #14171f; --soft: #1d212c; --bar: #7ab0f5; --yes: #67cf92; --no: #ff8a80;
  --open: #e3c04d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 46rem; } .dim, caption { color: var(--dim); }
.short { background: var(--soft); border-left: 4px solid var(--bar); padding: .7rem 1rem;
  font-size: 1.05rem; max-width: none; }
ul.claims { list-style: none; padding: 0; margin: .5rem 0; }
ul.claims li { display: grid; grid-template-columns: 3.4rem 1fr; gap: .3rem; padding: .28rem 0;
  border-bottom: 1px solid var(--line); }
.yes { color: var(--yes); } .no { color: var(--no); } .open { color: var(--open); }
.yes, .no, .open { font-weight: 700; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.2rem; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .5rem .3rem 0;
  border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--dim); font-size: .85rem; }
thead th.right { text-align: right; } h3 { font-size: 1rem; margin: 1.1rem 0 .2rem; }
td.figure { white-space: nowrap; font-variant-numeric: tabular-nums; text-align: right; }
td.drawn { width: 45%; min-width: 8rem; } td.drawn svg { display: block; width: 100%;
  height: 1.5rem; }
.first th, .first td { font-weight: 700; }
svg .zero { stroke: var(--dim); stroke-dasharray: 2 3; } svg .bar { stroke: var(--bar);
  stroke-width: 4; } svg .mean { fill: var(--bar); }
pre { white-space: pre-wrap; background: var(--soft); padding: .6rem .8rem; font-size: .85rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .4rem 0; }
dt { color: var(--dim); } dd { margin: 0; }
.answers { display: grid; gap: .1rem 1rem; grid-template-columns: 8rem 1fr; margin: .6rem 0 1.2rem;
  border-left: 3px solid var(--line); padding-left: .8rem; }
.answers > :nth-child(odd) { color: var(--dim); }
ins { color: var(--yes); text-decoration: none; font-weight: 600; }
@media (max-width: 40rem) {
  table, caption, tbody, tr, th, td { display: block; border: 0; padding: 0; }
  thead { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; } td.figure { text-align: left; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--dim); }
  td.drawn { width: 100%; } .answers, dl { grid-template-columns: 1fr; }
  dt { margin-top: .4rem; } h1 { font-size: 1.35rem; } }
"""


@dataclass(frozen=True)
class Row:
    """A row of a table: a name, an interval and how it is written.

    >>> Row("the map", Interval(0.1, 0.0, 0.2, 9), "+0.100 [+0.000, +0.200]").figure[:6]
    '+0.100'
    """

    name: str
    interval: Interval
    figure: str


def drawn(interval: Interval, low: float, high: float, zero: float = 0.0) -> str:
    """An interval as a line with a dot at its mean, and a line where nothing changes.

    Example:
        >>> drawn(Interval(0.5, 0.25, 0.75, 9), low=0.0, high=1.0).count("<line")
        2

    low, high: what the left and the right end of the cell stand for.
    """
    width = (high - low) or 1.0

    def at(value: float) -> str:
        return f"{3 + 94 * (min(max(value, low), high) - low) / width:.2f}%"

    label = f"from {interval.low:.3f} to {interval.high:.3f}, mean {interval.mean:.3f}"
    return (
        f'<svg role="img" aria-label="{label}"><line class="zero" x1="{at(zero)}" x2="{at(zero)}" '
        f'y1="0" y2="100%"/><line class="bar" x1="{at(interval.low)}" x2="{at(interval.high)}" '
        f'y1="50%" y2="50%"/><circle class="mean" cx="{at(interval.mean)}" cy="50%" r="5"/></svg>'
    )


def intervals(
    caption: str, rows: Sequence[Row], header: str, zero: float = 0.0, first: str = ""
) -> str:
    """A table of intervals on one scale; the row named `first` is set in bold.

    Example:
        >>> row = Row("the map", Interval(0.5, 0.25, 0.75, 9), "+0.5")
        >>> intervals("Margin", [row], "nats").startswith("<table><caption>Margin")
        True
    """
    known = [row for row in rows if row.interval.n]
    low = min([zero, *(row.interval.low for row in known)])
    high = max([zero, *(row.interval.high for row in known)])
    body = "".join(
        f"<tr{' class=first' if row.name == first else ''}><th scope=row>{escape(row.name)}</th>"
        f"<td class=drawn>{drawn(row.interval, low, high, zero) if row.interval.n else ''}</td>"
        f"<td class=figure>{escape(row.figure) if row.interval.n else '-'}</td></tr>"
        for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr><th></th><th></th>"
        f"<th class=right>{escape(header)}</th></tr></thead><tbody>{body}</tbody></table>"
    )


def table(caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words and figures; on a narrow screen each cell says its header.

    Example:
        >>> "data-label=alpha" in table("Settings", ["name", "alpha"], [["(a)", "0.2"]])
        True
    """
    head = "".join(f"<th>{escape(text)}</th>" for text in headers)
    body = ""
    for first, *cells in rows:
        columns = "".join(
            f'<td data-label="{escape(name)}">{escape(text)}</td>'
            if " " in name
            else f"<td data-label={escape(name)}>{escape(text)}</td>"
            for name, text in zip(headers[1:], cells, strict=True)
        )
        body += f"<tr><th scope=row>{escape(first)}</th>{columns}</tr>"
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def with_new_words(before: str, after: str) -> str:
    """A text with the words that another one does not have marked.

    Example:
        >>> with_new_words("so it is", "so it was")
        'so it <ins>was</ins>'
    """
    old, new = before.split(), after.split()
    pieces: list[str] = []
    for tag, _, _, start, stop in difflib.SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        words = escape(" ".join(new[start:stop]))
        if words:
            pieces.append(words if tag == "equal" else f"<ins>{words}</ins>")
    return " ".join(pieces)
