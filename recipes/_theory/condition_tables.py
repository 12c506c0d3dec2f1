"""What is left of the steered margin when a condition is taken away."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _theory.steered_tables import four
from dspa_nn.evaluation import bootstrap

WHOLE = "map, rule|active tokens"
CELLS = ("map, rule", "map, all rows", "global, rule", "global, all rows", "rows permuted, rule")
TOKENS = ("active tokens", "every token")
# Comparisons with the whole, of every set and rule, are read together.
COMPARED = len(CELLS) * len(TOKENS) - 1
LEVEL = 1 - 0.05 / COMPARED


def tables(folder: Path, sets: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Everything as Markdown, and as plain values."""
    lines: list[str] = []
    figures: dict[str, Any] = {"level": LEVEL}
    for name in sets:
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        runs = {}
        for line in path.read_text().splitlines():
            one = json.loads(line)
            runs[one["name"]] = {
                key: np.asarray(value) for key, value in one.items() if key != "name"
            }
        for rule in dict.fromkeys(run.split("|")[0] for run in runs):
            lines += _of_rule(name, rule, runs, figures)
    return "\n".join(lines), figures


def _of_rule(
    name: str, rule: str, runs: dict[str, dict[str, np.ndarray]], figures: dict[str, Any]
) -> list[str]:
    def change(run: dict[str, np.ndarray]) -> np.ndarray:
        return run["chosen.change"] - run["rejected.change"]

    def both(run: dict[str, np.ndarray], figure: str) -> float:
        return float(np.mean([run[f"chosen.{figure}"], run[f"rejected.{figure}"]]))

    whole = runs[f"{rule}|{WHOLE}"]
    lines = [
        f"### {name}, prompt rule {rule!r}: {len(whole['rows'])} test triples", "",
        "| which prompt and latents | tokens | margin | less the whole | share moved | KL |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    kept = figures.setdefault(name, {}).setdefault(rule, {})
    for cell in CELLS:
        for tokens in TOKENS:
            key = f"{rule}|{cell}|{tokens}"
            # With weights above 0 a prompt's rule only scales one difference: the plan is the same.
            same = cell == "global, rule" and rule != "centred"
            if not same and key not in runs:
                continue  # not measured
            run = runs[f"{rule}|global, all rows|{tokens}" if same else key]
            margin, gap = (
                bootstrap(change(run)),
                bootstrap(change(run) - change(whole), level=LEVEL),
            )
            kept[f"{cell}|{tokens}"] = {
                "margin": margin.to_dict(), "gap": gap.to_dict(), "same as all rows": same,
                "share": both(run, "share"), "kl": both(run, "kl"),
            }  # fmt: skip
            if same:
                lines.append(f"| {cell} | {tokens} | as all rows | | | |")
                continue
            less = "-" if f"{cell}|{tokens}" == WHOLE else four(gap)
            lines.append(
                f"| {cell} | {tokens} | {four(margin)} | {less} | {100 * both(run, 'share'):.2f} % "
                f"| {both(run, 'kl'):.4f} |"
            )
    return [*lines, ""]
