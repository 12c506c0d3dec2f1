"""Tables of steered margins: each selection, and less the paper's rule, over draws of a map."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from _theory.ranking import PAPER
from dspa_nn.evaluation import Interval, bootstrap


def steered_tables(
    steered: Mapping[str, list[dict[str, Any]]], figures: dict[str, Any], level: float
) -> list[str]:
    """Lines of a table for each set, and its figures under "steered".

    steered: set -> what `steered.measured` wrote, named "selection|draw". level: of the intervals
    of a selection less the paper's rule.
    """
    lines: list[str] = []
    for name, runs in steered.items():
        # Selection -> draw -> its run.
        by_selection: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for run in runs:
            selection, draw = run["name"].rsplit("|", 1)
            by_selection[selection][draw] = run
        papers = by_selection[PAPER]
        tested = len({row for run in papers.values() for row in run["rows"]})
        several = len(papers) > 1
        draws = f"{len(papers)} draws" if several else "1 draw"
        lines += [
            f"### {name}: {tested} test rows, {draws}", "",
            "| selection | margin | chosen | rejected | less the paper's rule | "
            f"{'draw by draw | ' if several else ''}share moved | KL |",
            "|---" * (7 + several) + "|",
        ]  # fmt: skip
        kept = figures.setdefault("steered", {}).setdefault(name, {})
        for key, runs_of in by_selection.items():
            own = _margins([*runs_of.values()])
            paper = _margins([papers[draw] for draw in runs_of])
            margin = bootstrap(own["margin"])
            gap = bootstrap(own["margin"] - paper["margin"], level=level)
            by_draw = [
                float(np.mean(_margin(run) - _margin(papers[draw])))
                for draw, run in runs_of.items()
            ]
            kept[key] = {"margin": margin.to_dict(), "gap": gap.to_dict(), "by draw": by_draw}
            parts = [four(bootstrap(own[side])) for side in ("chosen", "rejected")]
            less = ["-", "-"]
            if key != PAPER:
                less = [four(gap), ", ".join(f"{one:+.4f}" for one in by_draw)]
            cells = [
                key, four(margin), *parts, *less[: 1 + several],
                f"{100 * own['share'].mean():.2f} %", f"{own['kl'].mean():.4f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _margin(run: Mapping[str, Any]) -> np.ndarray:
    """The change of the margin, row by row."""
    return np.asarray(run["chosen.change"]) - np.asarray(run["rejected.change"])


def _margins(runs: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Row by row, the means over the draws that scored a row."""
    of_run = np.concatenate([run["rows"] for run in runs])
    rows, at = np.unique(of_run, return_inverse=True)

    def mean(figure: str) -> np.ndarray:
        values = np.concatenate([run[figure] for run in runs])
        return np.bincount(at, values, len(rows)) / np.bincount(at, minlength=len(rows))

    chosen, rejected = mean("chosen.change"), mean("rejected.change")
    return {
        "margin": chosen - rejected,
        "chosen": chosen,
        "rejected": rejected,
        "share": (mean("chosen.share") + mean("rejected.share")) / 2,
        "kl": (mean("chosen.kl") + mean("rejected.kl")) / 2,
    }


def four(interval: Interval) -> str:
    """A margin in nats a token, with four places."""
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
