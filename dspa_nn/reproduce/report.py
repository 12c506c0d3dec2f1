"""The figures of a run beside the published ones: a page, a JSON file, and a table as CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dspa_nn.evaluation import Interval
from dspa_nn.files import write_atomically
from dspa_nn.receipt import STYLE, intervals, table
from dspa_nn.receipt import Row as Line
from dspa_nn.reproduce.claims import Claim, claims
from dspa_nn.reproduce.tables import FIGURES, TABLES, Row

_MARKS = {True: "yes", False: "no", None: "open"}
_STAND_IN = (
    "A stand-in: a tiny random model, a few questions, and a judge that rates by a hash. The path "
    "is that of a real run; no figure here means anything, and the published ones are of real "
    "models."
)


def write_report(
    body: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    published: Mapping[Row, Mapping[str, float]],
    folder: Path,
) -> tuple[dict[str, Any], Path, Path]:
    """Write `report.html`, `report.json` and `figures.csv`; return what the JSON holds.

    Args:
        body: what is told of the run. results: of each row's slug. published: the paper's.
        folder: where they go.

    Raises:
        FileError: a full disk or a read-only folder.
    """
    rows = [
        {
            "table": row.table, "method": row.method, "slug": row.slug,
            "figures": {
                name: {"ours": results[row.slug].get(name), "published": known[name]}
                for name in FIGURES
            },
        }
        for row, known in published.items()
        if row.slug in results
    ]  # fmt: skip
    found = claims(results)
    figures = {**body, "claims": [claim.to_dict() for claim in found], "rows": rows}
    page, path = folder / "report.html", folder / "report.json"
    write_atomically(path, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / "figures.csv", as_csv(rows))
    write_atomically(page, page_of(figures, found))
    return figures, page, path


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every figure on a line, with its interval where it was measured.

    >>> as_csv([]).strip()
    'table,method,figure,ours,low,high,n,published'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "method", "figure", "ours", "low", "high", "n", "published"])
    for row in rows:
        for name, figure in row["figures"].items():
            ours: dict[str, Any] = figure["ours"] or {}
            ends = [
                "" if ours.get(end) is None else round(float(ours[end]), 3)
                for end in ("mean", "low", "high")
            ]
            writer.writerow(
                [row["table"], row["method"], name, *ends, ours.get("n", ""), figure["published"]]
            )
    return out.getvalue()


def page_of(figures: Mapping[str, Any], found: Sequence[Claim]) -> str:
    """The whole page."""
    name = escape(figures["preset"])
    warning = f"<p class=short>{escape(_STAND_IN)}</p>" if figures["stand_in"] else ""
    said = "".join(
        f"<li><span class={_MARKS[claim.holds]}>{_MARKS[claim.holds]}</span><span>"
        f"{escape(claim.text[0].upper() + claim.text[1:])}: {escape(claim.figures)}.</span></li>"
        for claim in found
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in figures["notes"])
    body = [
        f"<h1>{name}: the paper's tables, reproduced</h1>",
        "<p class=dim>Figures of this run with intervals of 95 %, beside those of arXiv "
        "2603.21461, which have none.</p>",
        warning,
        "<h2>What the paper says</h2><p class=dim>Yes: the whole interval is on the claim's side. "
        "No: it is on the other. Open: it holds both, or something was not measured.</p>"
        f"<ul class=claims>{said}</ul>",
        f"<ul>{notes}</ul>" if notes else "",
        *(_table(figures["rows"], key, title) for key, title in TABLES.items()),
        _costs(figures),
        _about(figures),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Reproduction: {name}</title>'
        f"<style>{STYLE}</style></head><body>" + "\n".join(body) + "</body></html>\n"
    )


def _table(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> str:
    chosen = [row for row in rows if row["table"] == key]
    if not chosen:
        return ""
    drawn: list[str] = []
    for name, label in FIGURES.items():
        lines: list[Line] = []
        for row in chosen:
            figure = row["figures"][name]
            ours = figure["ours"]
            interval = Interval(float("nan"), float("nan"), float("nan"), 0)
            text = ""
            if ours is not None:
                interval = Interval(**ours)
                text = shown(interval)
            lines.append(Line(f"{row['method']} (paper {figure['published']:g})", interval, text))
        middle = next((line.interval.mean for line in lines if line.interval.n), 0.0)
        base = next(
            (line.interval.mean for line in lines
             if line.name.startswith("Base") and line.interval.n),
            middle,
        )  # fmt: skip
        caption = f"{label}, {title}. The line is at the base model, or at the first row."
        drawn.append(intervals(caption, lines, label, zero=base, first=lines[0].name))
    return f"<h2>{escape(title.capitalize())}</h2>{''.join(drawn)}"


def shown(interval: Interval) -> str:
    """A figure with its interval, with two digits.

    >>> shown(Interval(4.391, 4.1, 4.7, 80))
    '4.39 [4.10, 4.70]'
    """
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _costs(figures: Mapping[str, Any]) -> str:
    costs = figures["costs"]
    if costs is None:
        return ""
    rows = [
        [row["way"], f"{row['flops'] / 1e12:.4g}", f"{row['ratio']:.3g}", row["known"]]
        for row in costs["rows"]
    ]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in figures["seconds"].items())
    return (
        "<h2>Cost</h2>"
        + table(
            f"Of aligning {costs['model']} on a triple of {costs['prompt']:g}, "
            f"{costs['chosen']:g} and {costs['rejected']:g} tokens (prompt, chosen, rejected).",
            ["", "TFLOP", "times DSPA.count", "known by"],
            rows,
        )
        + f"<p>This run took: {escape(seconds or 'nothing was measured')}.</p>"
    )


def _about(figures: Mapping[str, Any]) -> str:
    names = ("settings", "judges", "commits", "origin", "versions")
    facts = json.dumps({name: figures[name] for name in names}, indent=1)
    return (
        "<h2>What this rests on</h2><details><summary>Settings, judges, commits and versions"
        f"</summary><pre>{escape(facts)}</pre></details>"
    )
