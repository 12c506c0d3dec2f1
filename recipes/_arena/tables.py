"""The figures of one set as Markdown, from whatever parts are finished."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _real.compare import cell

from dspa_nn.evaluation import (
    AXES,
    Interval,
    at_equal_length,
    bootstrap,
    distinct,
    loop,
    preference_of,
    repetition,
    style_axes,
    warmth,
)

Figures = dict[str, dict[str, Any]]


def read(path: Path) -> Any:
    """What a file holds; nothing where it is not there yet."""
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return found["value"] if isinstance(found, dict) and set(found) == {"key", "value"} else found


def share(found: Interval) -> str:
    """A share with its interval, without a sign."""
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def row(cells: Sequence[Any]) -> str:
    """A line of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def head(cells: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [row(cells), "|" + "---|" * len(cells)]


def margins(work: Path) -> Figures:
    """Method -> its figures on the test triples, those of trained methods too."""
    found: Figures = {}
    for path in [work / "margins-all.json", *sorted(work.glob("margins-*.json"))]:
        found |= {k: v for k, v in (read(path) or {}).items() if k not in found}
    return found


def effects(work: Path, flops: dict[str, float]) -> list[str]:
    """What every method does to given texts, and what it costs to fit."""
    found = margins(work)
    if not found:
        return []
    lengths = np.array(read(work / "lengths-test.json"), dtype=np.float64)
    plain = found["unsteered"]
    n = len(plain["chosen.log_prob"])
    chosen, rejected = lengths[:n, 1], lengths[:n, 2]
    lines = head(["method", "change of the margin", "of which chosen", "of which rejected",
                  "at equal length", "KL", "fit, TFLOP"])  # fmt: skip
    for name, one in found.items():
        up, down = (np.array(one[f"{side}.change"]) for side in ("chosen", "rejected"))
        kl = (np.mean(one["chosen.kl"]) + np.mean(one["rejected.kl"])) / 2
        cost = flops.get(name)
        cells: list[Any] = [name, cell(up - down), cell(up), cell(down)]
        equal = at_equal_length(up - down, chosen, rejected)
        cells += [f"{equal.mean:+.3f} [{equal.low:+.3f}, {equal.high:+.3f}]", f"{kl:.3f}"]
        lines.append(row([*cells, "-" if cost is None else f"{cost / 1e12:.2f}"]))
    lines += ["", *head(["method", "accuracy", "at equal length", "alike in length",
                         "less unsteered"])]  # fmt: skip
    base = None
    for name, one in found.items():
        margin = np.array(one["chosen.log_prob"]) - np.array(one["rejected.log_prob"])
        held = preference_of(margin, chosen, rejected)
        base = base or held
        gap = held.less(base)
        alike = f"{held.alike.mean:.2f} (n = {held.alike.n})"
        lines.append(
            row([name, share(held.accuracy), share(held.at_equal_length), alike,
                 "-" if held is base else str(gap)])
        )  # fmt: skip
    longer = preference_of(np.ones(n), chosen, rejected).longer
    return [*lines, "", f"{n} test triples; longer wins: {share(longer)}.", ""]


def priced(flops: dict[str, float]) -> list[str]:
    """FLOPs of fitting each method on the N triples, by counting and not by a paper's account."""
    ways: dict[float, list[str]] = {}
    for name, cost in flops.items():
        ways.setdefault(cost, []).append(name)
    lines = head(["methods", "TFLOP", "times DSPA"])
    for cost, names in sorted(ways.items()):
        times = f"{cost / flops['DSPA']:.2f}" if cost else "0"
        lines.append(row([", ".join(names), f"{cost / 1e12:.2f}", times]))
    return [*lines, ""]


def answered(work: Path) -> list[str]:
    """What is read off the greedy answers."""
    paths = {path.stem: path for path in (work / "answers").glob("*.json")}
    if "unsteered" not in paths:
        return []
    order = ["unsteered", *(name for name in margins(work) if name != "unsteered")]
    said = {name: read(paths[name]) for name in order if name in paths}
    plain = said["unsteered"]
    lines = head(["method", "changed", "perplexity ratio", "tokens", "distinct-2",
                  "repeated 4-grams", "in a loop"])  # fmt: skip
    for name, one in said.items():
        ids = [torch.tensor(tokens) for tokens in one["ids"]]
        changed = sum(a != b for a, b in zip(one["texts"], plain["texts"], strict=True))
        gap = np.array(one["log_perplexity"], float) - np.array(plain["log_perplexity"], float)
        cells = [
            name, f"{changed} of {len(ids)}", share(bootstrap(gap).exp()),
            f"{np.mean([len(one) for one in ids]):.1f}",
            share(bootstrap([distinct(one, 2) for one in ids])),
            share(bootstrap([repetition(one) for one in ids])),
            f"{sum(loop(one) > 0 for one in ids)} of {len(ids)}",
        ]  # fmt: skip
        lines.append(row(cells))
    lines += ["", *head(["method, less unsteered", *(axis.name for axis in AXES.values()),
                         "warmth"])]  # fmt: skip
    before = scores(plain["texts"])
    for name, one in said.items():
        if name == "unsteered":
            continue
        after = scores(one["texts"])
        lines.append(row([name, *(cell(after[key] - before[key]) for key in before)]))
    return [*lines, ""]


def scores(texts: list[str]) -> dict[str, Any]:
    """Style axis -> one score per answer."""
    return {**style_axes(texts), "warmth": np.array([warmth(text) for text in texts])}


def sampled(work: Path) -> list[str]:
    """The branching factor of every method."""
    paths = {path.stem: path for path in (work / "sampled").glob("*.json")}
    if "unsteered" not in paths:
        return []
    base = np.array(read(paths["unsteered"])["entropy"])
    lines = head(["method", "branching factor", "over the unsteered model's"])
    for name in (name for name in margins(work) if name in paths):
        entropy = np.array(read(paths[name])["entropy"])
        factor, ratio = bootstrap(entropy).exp(), bootstrap(entropy - base).exp()
        lines.append(row([name, share(factor), "-" if name == "unsteered" else share(ratio)]))
    return [*lines, ""]


def tuned(work: Path) -> list[str]:
    """Every setting that was tried on development triples, and which was taken."""
    found = read(work / "tuning.json")
    if not found:
        return []
    lines = head(["method", "setting", "change of the margin", "KL", "taken"])
    for name, rows in found["grid"].items():
        for one in rows:
            setting = ", ".join(f"{k} {v}" for k, v in one["setting"].items())
            taken = "yes" if one["setting"] == found["best"][name] else ""
            lines.append(row([name, setting, f"{one['change']:+.4f}", f"{one['kl']:.3f}", taken]))
    return [*lines, "", f"{found['triples']} development triples; KL at most {found['kl']}.", ""]


def ranked(work: Path) -> list[str]:
    """Held-out ranking from counts alone over N."""
    found = read(work / "ranking.json")
    if not found:
        return []
    ways = {name: value for name, value in found.items() if isinstance(value, dict)}
    sizes = list(next(iter(ways.values())))
    lines = head(["ranked rightly by", *(f"N = {size}" for size in sizes)])
    for name, value in ways.items():
        lines.append(row([name, *(spread(value[size], "") for size in sizes)]))
    longer = share(bootstrap(found["longer wins"]))
    many = len(next(iter(ways.values()))[sizes[0]])
    held, number = found["held out"]
    return [
        *lines,
        "",
        f"Mean ± sd of {many} resamplings (one of all triples); {number} {held} triples; longer "
        f"wins: {longer}.",
        "",
    ]


def spread(values: Sequence[float], sign: str = "+") -> str:
    """A mean over resamplings with its standard deviation, where there are several."""
    rest = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.3f}{rest}"


def efficient(work: Path) -> list[str]:
    """Change of the margin over N, of methods that were fitted on resamplings."""
    by_size: dict[int, list[dict[str, Any]]] = {}
    for path in sorted((work / "efficiency").glob("*-*.json")):
        by_size.setdefault(int(path.stem.partition("-")[0]), []).append(read(path))
    if not by_size:
        return []
    sizes = sorted(by_size)
    lines = head(["method", *(f"N = {n} ({len(by_size[n])})" for n in sizes)])
    for name in by_size[sizes[0]][0]:
        cells = [spread([one[name]["change"] for one in by_size[size]]) for size in sizes]
        lines.append(row([name, *cells]))
    return [*lines, "", "Mean ± sd over resamplings, their number in brackets.", ""]


def sensitive(work: Path) -> list[str]:
    """One setting at a time, and alpha with every mode."""
    found = read(work / "sensitivity" / "margins.json")
    if not found:
        return []
    lines = head(["axis", "value", "change of the margin", "chosen", "rejected", "KL"])
    for axis, rows in found.items():
        if axis == "alpha x mode":
            continue
        for one in rows:
            parts = [f"{one[side]:+.3f}" for side in ("chosen", "rejected")]
            value = one["setting"][axis]
            lines.append(row([axis, value, cell(one["changes"]), *parts, f"{one['kl']:.3f}"]))
    lines += ["", *head(["mode", "alpha", "change of the margin", "chosen", "rejected", "KL",
                         "perplexity ratio", "distinct-2", "in a loop"])]  # fmt: skip
    plain = read(work / "sensitivity" / "answers-00.json")
    for place, one in enumerate(found["alpha x mode"], 1):
        said = read(work / "sensitivity" / f"answers-{place:02d}.json")
        parts = [f"{one[side]:+.3f}" for side in ("chosen", "rejected")]
        setting = one["setting"]
        cells = [
            setting["mode"],
            setting["alpha"],
            cell(one["changes"]),
            *parts,
            f"{one['kl']:.3f}",
        ]
        if said and plain:
            gap = np.array(said["log_perplexity"], float) - np.array(plain["log_perplexity"], float)
            loops = sum(loop(torch.tensor(ids)) > 0 for ids in said["ids"])
            cells += [share(bootstrap(gap).exp()), f"{np.nanmean(said['distinct_2']):.3f}",
                      f"{loops} of {len(said['ids'])}"]  # fmt: skip
        else:
            cells += ["-", "-", "-"]
        lines.append(row(cells))
    return [*lines, ""]


def page(title: str, work: Path, flops: dict[str, float]) -> list[str]:
    """The tables of all parts of a set that are finished."""
    parts = {
        "Cost of a fit": priced(flops) if flops else [],
        "Effect and cost": effects(work, flops),
        "Answers": answered(work),
        "Branching factor": sampled(work),
        "Fewer triples, by counts alone": ranked(work),
        "Fewer triples, by steered margin": efficient(work),
        "Settings around the preset's": sensitive(work),
        "What was tuned": tuned(work),
    }
    lines = [f"## {title}", ""]
    for heading, table in parts.items():
        if table:
            lines += [f"### {title}: {heading[0].lower()}{heading[1:]}", "", *table]
    return lines
