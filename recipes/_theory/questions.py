"""What the draws say of each question: power, accuracies, paired intervals, steered margins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from _theory.ranking import PAPER, QUESTIONS
from _theory.steered_tables import steered_tables
from dspa_nn.evaluation import Interval, at_equal_length, bootstrap

# Questions whose intervals are read together (Bonferroni).
LEVEL = 1 - 0.05 / len(QUESTIONS)
GAIN = 0.02
# What tells of a selection and is no accuracy.
ENTRIES = "entries: "


def rows_needed(sd: float, gain: float = GAIN, alpha: float = 0.05, power: float = 0.8) -> int:
    """Test rows at which a paired difference of `gain` is seen: ((z + z') sd / gain)^2.

    sd: of the difference of two selections, row by row. Two-sided test at `alpha`.
    """
    both = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    return int(np.ceil((both * sd / gain) ** 2))


@dataclass
class Judged:
    """One data set: where its draws lie, its rows by split, and what length alone ranks."""

    name: str
    folder: Path
    rows: Mapping[str, np.ndarray]
    longer: Mapping[str, np.ndarray]
    ratio: Mapping[str, np.ndarray]
    known: dict[int, Any] = field(default_factory=dict)

    def sizes(self) -> list[int]:
        """Sizes of the fits that were judged."""
        return sorted({int(path.name.split("-")[0]) for path in self.folder.glob("*.npz")})

    def draws(self, size: int) -> dict[str, np.ndarray]:
        """Selection -> [draws, rows], NaN where a row was fitted on or a draw has none of it."""
        if size not in self.known:
            self.known[size] = self._draws(size)
        return self.known[size]

    def _draws(self, size: int) -> dict[str, np.ndarray]:
        paths = sorted(self.folder.glob(f"{size}-[0-9][0-9].npz"))
        found: dict[str, np.ndarray] = {}
        for at, path in enumerate(paths):
            arrays = dict(np.load(path))
            rows, drawn = arrays.pop("rows"), arrays.pop("drawn")
            for name, values in arrays.items():
                single = name.startswith(ENTRIES)
                table = found.setdefault(
                    name, np.full((len(paths), 1 if single else len(rows)), np.nan)
                )
                table[at] = values if single else values / 2
                if not single:
                    table[at, np.isin(rows, drawn)] = np.nan
            self.order = rows
        return found

    def among(self, choosing: bool) -> np.ndarray:
        """Which columns of the draws are rows for choosing, or those for confirming."""
        test = np.isin(self.order, self.rows["test"])
        return ~test if choosing else test

    def less_paper(self, size: int, name: str, choosing: bool) -> np.ndarray:
        """A selection less the paper's rule, row by row, the mean over draws that have both."""
        draws = self.draws(size)
        here = self.among(choosing)
        gap = (draws[name] - draws[PAPER])[:, here]
        return _mean(gap)

    def accuracy(self, size: int, name: str, choosing: bool) -> np.ndarray:
        """How often each row is ranked rightly, the mean over draws."""
        return _mean(self.draws(size)[name][:, self.among(choosing)])

    def at_one_length(self, size: int, name: str) -> Interval:
        """Accuracy on test rows at equal length of both responses."""
        order = self.order[self.among(False)]
        ratio = dict(zip(self.rows["test"], self.ratio["test"], strict=True))
        # Only the ratio of lengths matters there; lengths below 1 are refused.
        of_rows = 1e4 * np.exp([ratio[row] for row in order])
        same = np.full(len(order), 1e4)
        return at_equal_length(self.accuracy(size, name, False), of_rows, same)


def _mean(table: np.ndarray) -> np.ndarray:
    counted = (~np.isnan(table)).sum(0)
    total = np.nansum(table, 0)
    return np.divide(total, counted, out=np.full(len(total), np.nan), where=counted > 0)


def told(interval: Interval, signed: bool = False) -> str:
    """A mean and its interval for a table."""
    form = "+.3f" if signed else ".3f"
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def tables(
    judged: Sequence[Judged], steered: Mapping[str, list[dict[str, Any]]]
) -> tuple[str, dict[str, Any]]:
    """Everything as Markdown, and as plain values."""
    figures: dict[str, Any] = {"level": LEVEL, "sets": {}}
    lines = ["## Power", "", *_power(judged, figures), ""]
    for one in judged:
        for size in one.sizes():
            lines += [f"## {one.name}, maps of {size} triples", ""]
            lines += [*_selections(one, size, figures), ""]
    lines += ["## Chosen, and confirmed on test rows", "", *_chosen(judged, figures), ""]
    lines += ["## Entries that can be told from 0", "", *_entries(judged), ""]
    if steered:
        lines += ["## Steered margins", "", *steered_tables(steered, figures, LEVEL), ""]
    return "\n".join(lines), figures


def _names(one: Judged, size: int) -> list[str]:
    """Selections that are judged: not those of a map in which nothing was left."""
    draws = one.draws(size)
    empty = [
        name.removeprefix(ENTRIES)
        for name, values in draws.items()
        if name.startswith(ENTRIES) and not np.nansum(values)
    ]
    return [
        name
        for name in draws
        if not name.startswith(ENTRIES) and not any(name.endswith(left) for left in empty)
    ]


def _power(judged: Sequence[Judged], figures: dict[str, Any]) -> list[str]:
    lines = [
        "| set | N | sd of a paired difference, row by row: median (most) | rows for 2 points | "
        "corrected for all questions | test rows | what those can see, corrected |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in judged:
        for size in one.sizes():
            sds = np.array(
                [
                    np.nanstd(one.less_paper(size, name, True))
                    for name in _names(one, size)
                    if name != PAPER
                ]
            )
            alpha = 1 - LEVEL
            middle, most = float(np.median(sds)), float(sds.max())
            n = len(one.rows["test"])
            seen = (norm.ppf(1 - alpha / 2) + norm.ppf(0.8)) * middle / np.sqrt(n)
            lines.append(
                f"| {one.name} | {size} | {middle:.3f} ({most:.3f}) | {rows_needed(middle):,} "
                f"({rows_needed(most):,}) | {rows_needed(middle, alpha=alpha):,} "
                f"({rows_needed(most, alpha=alpha):,}) | {n} | {seen:.3f} |"
            )
            figures["sets"].setdefault(one.name, {})[str(size)] = {"sd": [middle, most]}
    return lines


def _selections(one: Judged, size: int, figures: dict[str, Any]) -> list[str]:
    kept = figures["sets"][one.name][str(size)]
    longer = bootstrap(one.longer["test"])
    lines = [
        f"{len(one.draws(size)[PAPER])} draws; rows for choosing {int(one.among(True).sum())}, "
        f"test rows {int(one.among(False).sum())}; the longer response is the chosen one in "
        f"{told(longer)} of the test rows.",
        "",
        "| selection | choosing rows | less the paper's rule | test rows | less the paper's rule | "
        "at equal length | sd over draws |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in _names(one, size):
        draws = one.draws(size)[name][:, one.among(False)]
        means = np.nanmean(draws[~np.isnan(draws).all(1)], 1)
        row = {
            "choosing": bootstrap(one.accuracy(size, name, True)),
            "choosing gap": bootstrap(one.less_paper(size, name, True), level=LEVEL),
            "test": bootstrap(one.accuracy(size, name, False)),
            "test gap": bootstrap(one.less_paper(size, name, False), level=LEVEL),
            "equal length": one.at_one_length(size, name),
        }
        spread = float(means.std(ddof=1)) if len(means) > 1 else 0.0
        kept[name] = {key: value.to_dict() for key, value in row.items()}
        cells = [told(value, "gap" in key) for key, value in row.items()]
        if name == PAPER:
            cells[1] = cells[3] = "-"
        lines.append("| " + " | ".join([name, *cells, f"{spread:.3f}"]) + " |")
    return lines


def _chosen(judged: Sequence[Judged], figures: dict[str, Any]) -> list[str]:
    """The best selection on choosing rows, for each set and for both; on test rows."""
    lines = [
        "| chosen on | N | selection | gain on choosing rows | gain on test rows | outside? |",
        "|---|---|---|---|---|---|",
    ]
    figures["chosen"] = []
    groups = [(one.name, [one]) for one in judged]
    level = 1 - 0.05 / (len(judged) + 1)
    if len(judged) > 1:
        groups.append(("all", list(judged)))
    for label, group in groups:
        for size in sorted({size for one in group for size in one.sizes()}):
            here = [one for one in group if size in one.sizes()]
            if label == "all" and len(here) < 2:
                continue
            common = [
                name
                for name in _names(here[0], size)
                if name != PAPER and all(name in one.draws(size) for one in here)
            ]

            def gain(name: str, choosing: bool, here: Any = here, size: int = size) -> np.ndarray:
                return np.concatenate([one.less_paper(size, name, choosing) for one in here])

            best = max(common, key=lambda name: np.nanmean(gain(name, True)))
            before, after = (
                bootstrap(gain(best, True), level=LEVEL),
                bootstrap(gain(best, False), level=level),
            )
            outside = "yes" if after.low > 0 else "no"
            lines.append(
                f"| {label} | {size} | {best} | {told(before, True)} | {told(after, True)} | "
                f"{outside} |"
            )
            figures["chosen"].append(
                {"on": label, "N": size, "selection": best, "test": after.to_dict()}
            )
    return lines


def _entries(judged: Sequence[Judged]) -> list[str]:
    lines = [
        "| set | N | whole map | bound | discoveries at 0.05 | at 0.2 |",
        "|---|---|---|---|---|---|",
    ]
    for one in judged:
        for size in one.sizes():
            draws = one.draws(size)
            names = ("whole", "bound", "discoveries at 0.05", "discoveries at 0.2")
            if ENTRIES + "whole" not in draws:
                continue
            cells = [f"{np.nanmean(draws[ENTRIES + name]):,.0f}" for name in names]
            lines.append(f"| {one.name} | {size} | " + " | ".join(cells) + " |")
    return lines
