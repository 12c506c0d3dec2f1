"""What was measured of personas, as lines of JSON and as Markdown."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dspa_nn.evaluation import AXES
from dspa_nn.personas import AxisEffects


def key_of(line: dict[str, Any]) -> str:
    """What tells one line from another."""
    names = ("split", "persona", "latents", "mode", "options", "n", "chosen by", "first")
    return json.dumps([line.get(name) for name in names], sort_keys=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def effect_table(found: AxisEffects) -> list[str]:
    """For each axis, how many latents move it beyond chance, and those that do so furthest."""
    lines = [
        "| axis | latents that move it | furthest up: latent, effect (SE) | furthest down |",
        "|---|---|---|---|",
    ]
    clear = significant(found)
    for place, axis in enumerate(found.axes):
        ends = []
        for sign in (-1, 1):
            order = np.argsort(sign * found.effect[:, place], kind="stable")[:3]
            ends.append(
                ", ".join(
                    f"{found.latents[i]}: {found.effect[i, place]:+.2f} "
                    f"({found.error[i, place]:.2f})"
                    for i in order
                )
            )
        lines.append(f"| {AXES[axis].name} | {clear[:, place].sum()} | {ends[0]} | {ends[1]} |")  # pyright: ignore
    return lines


def significant(found: AxisEffects, level: float = 0.05) -> np.ndarray:
    """Effects that pass Benjamini-Hochberg over all latents and axes, by two-sided z."""
    from scipy.stats import false_discovery_control, norm

    z = np.abs(found.effect) / np.where(found.error > 0, found.error, np.inf)
    p = 2 * norm.sf(z)
    return false_discovery_control(p.ravel()).reshape(p.shape) <= level


def crosstalk_table(lines: Sequence[dict[str, Any]], size: int) -> list[str]:
    """A row for each persona, a column for each axis; in bold what was asked for."""
    rows = [
        line for line in lines
        if line["split"] == "test" and line["latents"] == size and line["mode"] == "ablate"
        and line["options"] == {"alpha": 1.0} and len(line["persona"]) == 1
    ]  # fmt: skip
    if not rows:
        return []
    axes = list(rows[0]["axes"])
    text = [
        "| asked for | " + " | ".join(axes) + " | answers changed | perplexity ratio |",
        "|---" * (len(axes) + 3) + "|",
    ]
    seen: set[str] = set()
    for line in rows:
        [(axis, sign)] = line["persona"].items()
        if key_of(line) in seen:
            continue
        seen.add(key_of(line))
        cells = [
            f"**{interval(line['axes'][name])}**" if name == axis else interval(line["axes"][name])
            for name in axes
        ]
        end = axis if sign > 0 else AXES[axis].low  # pyright: ignore
        text.append("| " + " | ".join([end, *cells, *damage(line)]) + " |")
    return text


def dose_table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each persona and alpha, where several alphas were tried."""
    text = [
        "| asked for | latents | mode | alpha | utility | axis by axis | answers changed | "
        "perplexity ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    doses = [line for line in lines if line["split"] == "test"]
    several = [one for one in grouped(doses) if len({str(line["options"]) for line in one}) > 2]
    for line in (line for one in several for line in one):
        asked = ", ".join(f"{axis} {weight:+g}" for axis, weight in line["persona"].items())
        told = ", ".join(f"{axis} {interval(line['axes'][axis])}" for axis in line["persona"])
        cells = [
            asked, str(line["latents"]), line["mode"], f"{line['options']['alpha']:g}",
            interval(line["utility"]), told, *damage(line),
        ]  # fmt: skip
        text.append("| " + " | ".join(cells) + " |")
    return text


def graded_table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each way, persona and strength; a column for each axis, in bold what was asked."""
    if not lines:
        return []
    axes = list(lines[0]["axes"])
    text = [
        "| prompts | latents by | latents | mode | asked for | alpha | stream moved | "
        + " | ".join(axes)
        + " | answers changed | perplexity ratio | loops |",
        "|---" * (len(axes) + 10) + "|",
    ]
    for line in (line for group in grouped(lines) for line in group):
        [(axis, sign)] = line["persona"].items()
        end = axis if sign > 0 else AXES[axis].low  # pyright: ignore
        moved = [
            f"**{interval(line['axes'][name])}**" if name == axis else interval(line["axes"][name])
            for name in axes
        ]
        cells = [
            f"{line['split']} ({line['n']})", line["chosen by"], str(line["latents"]),
            line["mode"], end, f"{line['options']['alpha']:g}", f"{line['share']:.1%}",
            *moved, *damage(line), f"{line['looped']['mean']:+.0%}",
        ]  # fmt: skip
        text.append("| " + " | ".join(cells) + " |")
    return text


def grouped(lines: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Lines of one persona together, in order of alpha, each alpha once."""
    groups: dict[str, dict[float, dict[str, Any]]] = {}
    for line in lines:
        names = ("split", "n", "persona", "latents", "mode", "chosen by")
        key = json.dumps([line.get(name) for name in names])
        groups.setdefault(key, {}).setdefault(line["options"]["alpha"], line)
    for group in groups.values():
        yield [group[alpha] for alpha in sorted(group)]


def interval(one: dict[str, float]) -> str:
    """A mean with its interval, to two digits."""
    return f"{one['mean']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"


def damage(line: dict[str, Any]) -> list[str]:
    """Share of answers changed, and the ratio of perplexities."""
    moved = line["log_perplexity"]
    if moved["mean"] is None:
        return [f"{line['changed']:.0%}", "not measured"]
    low, mean, high = (float(np.exp(moved[name])) for name in ("low", "mean", "high"))
    return [f"{line['changed']:.0%}", f"{mean:.2f} [{low:.2f}, {high:.2f}]"]
