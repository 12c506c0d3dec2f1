"""The figures of one data set as Markdown."""

from typing import Any

import numpy as np

from _real.compare import cell
from _real.runs import Arrays
from dspa_nn.evaluation import bootstrap


def margin_table(measured: dict[str, Arrays]) -> list[str]:
    """One row a condition: the change of log p of either side, of the margin, and its price."""
    lines = [
        "| condition | chosen | rejected | margin | edits: chosen, rejected | moved: chosen, "
        "rejected | KL |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, values in measured.items():
        if name == "unsteered":
            continue
        chosen, rejected = values["chosen.change"], values["rejected.change"]
        edits = [f"{values[f'{side}.edits'].mean():.2f}" for side in ("chosen", "rejected")]
        share = [f"{values[f'{side}.share'].mean():.1%}" for side in ("chosen", "rejected")]
        kl = (values["chosen.kl"] + values["rejected.kl"]).mean() / 2
        cells = [
            name, cell(chosen), cell(rejected), cell(chosen - rejected), ", ".join(edits),
            ", ".join(share), f"{kl:.3f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def paired_table(measured: dict[str, Arrays]) -> list[str]:
    """The map less each control of the same number of triples, paired by triple."""
    lines = ["| the map less | chosen | rejected | margin |", "|---|---|---|---|"]
    for name, values in measured.items():
        own = measured.get("map, " + name.rpartition(", ")[2])
        if name == "unsteered" or own is None or own is values:
            continue
        chosen, rejected = (
            own[f"{side}.change"] - values[f"{side}.change"] for side in ("chosen", "rejected")
        )
        cells = [name, cell(chosen), cell(rejected), cell(chosen - rejected)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def answer_table(answers: dict[str, dict[str, list[Any]]]) -> list[str]:
    """One row a condition; changes are paired with the unsteered answers."""
    lines = [
        "| condition | changed | tokens | distinct-1 | distinct-2 | perplexity ratio | warmth |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = answers["unsteered"]
    for name, said in answers.items():
        if name == "unsteered":
            means = [np.nanmean(said[key]) for key in ("tokens", "distinct_1", "distinct_2")]
            perplexity = np.exp(np.nanmean(said["log_perplexity"]))
            cells = [
                name, "-", *(f"{mean:.2f}" for mean in means), f"(perplexity {perplexity:.2f})",
                f"{np.mean(said['warmth']):+.3f}",
            ]  # fmt: skip
        else:
            changed = sum(a != b for a, b in zip(said["texts"], plain["texts"], strict=True))
            ratio = bootstrap(_less(said, plain, "log_perplexity")).exp()
            cells = [
                name, f"{changed} of {len(said['texts'])}",
                cell(_less(said, plain, "tokens"), 1), cell(_less(said, plain, "distinct_1")),
                cell(_less(said, plain, "distinct_2")),
                f"{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
                cell(_less(said, plain, "warmth")),
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _less(said: dict[str, list[Any]], plain: dict[str, list[Any]], key: str) -> Any:
    return np.array(said[key], dtype=np.float64) - np.array(plain[key], dtype=np.float64)


def grid_table(rows: list[dict[str, Any]]) -> list[str]:
    """Every setting that was tried on the development rows, in the order of its margin."""
    lines = [
        "| prompt rule | percentile | mode | alpha | k_diff | chosen | rejected | margin | KL |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row["change"]):
        tried = row["setting"]
        chosen_by = [tried["prompt_rule"], tried["percentile"]]
        edited_by = [tried["mode"], tried["alpha"], tried["k_diff"]]
        figures = [f"{row[name]:+.4f}" for name in ("chosen", "rejected", "change")]
        cells = [*map(str, chosen_by + edited_by), *figures, f"{row['kl']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
