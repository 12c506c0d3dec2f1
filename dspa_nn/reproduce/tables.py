"""The paper's two tables, as they are printed: full data, and 250 triples."""

import csv
from functools import cache
from typing import NamedTuple

from dspa_nn.errors import EvaluationError
from dspa_nn.files import ASSETS

# Columns of the file -> how they are called in a report.
FIGURES = {
    "mt_bench": "MT-Bench",
    "alpaca_eval": "AlpacaEval win rate, %",
    "mmlu": "MMLU, %",
    "arc_easy": "ARC-Easy, %",
    "truthfulqa_mc2": "TruthfulQA (mc2), %",
    "hellaswag": "HellaSwag, %",
    "winogrande": "Winogrande, %",
}
TABLES = {"main": "all triples", "n250": "250 triples"}


class Row(NamedTuple):
    """One row of a table: which table, and which method.

    Example:
        >>> Row("main", "Prompt Eng").slug
        'main-prompt-eng'
    """

    table: str
    method: str

    @property
    def slug(self) -> str:
        """The row's name in files and options."""
        return f"{self.table}-{self.method}".lower().replace(" ", "-")


@cache
def _read() -> dict[str, dict[Row, dict[str, float]]]:
    with (ASSETS / "paper_results.csv").open(encoding="utf-8", newline="") as file:
        found: dict[str, dict[Row, dict[str, float]]] = {}
        for line in csv.DictReader(file):
            figures = {name: float(line[name]) for name in FIGURES}
            found.setdefault(line["model"], {})[Row(line["table"], line["method"])] = figures
    return found


def published(preset: str) -> dict[Row, dict[str, float]]:
    """What the paper reports of a model: row -> figure -> value, without intervals.

    Example:
        >>> published("gemma-2-9b")[Row("main", "DSPA")]["mt_bench"]
        5.02

    Raises:
        EvaluationError: a model that is not in the paper.

    Source: arXiv 2603.21461, its two tables of results.
    """
    known = _read()
    if preset not in known:
        raise EvaluationError(
            f"the paper reports nothing of {preset!r}; its models are {', '.join(known)}"
        )
    return known[preset]
