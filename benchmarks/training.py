"""What the training recipes did: losses, seconds and memory of their runs, as tables.

    python -m benchmarks.training RUNS --flops training_flops.json --margin margin.json

RUNS holds the `--out` folders of `recipes/train_*.py`, by the names below; those that are absent
are left out. `--flops` is what `recipes/training_flops.py` wrote, `--margin` what
`recipes/trained_margin.py` wrote. Nothing is trained here.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks._report import Rows, options, write

RUNS = {
    "dpo-uf": "DPO, UltraFeedback",
    "dpo-plans": "DPO, plans",
    "dpo-news": "DPO, news",
    "rahf-1": "RAHF-SCIT step 1",
    "rahf-2": "RAHF-SCIT step 2",
    "sft-hh": "SFT, HH-RLHF",
    "sae-9": "SAE of layer 9, HH-RLHF",
    "sae-news": "SAE of layer 9, news",
}
Log = list[dict[str, Any]]


def logs(folder: Path) -> dict[str, Log]:
    """The logged steps of every run that is there."""
    found: dict[str, Log] = {}
    for name, label in RUNS.items():
        # An SAE's log lies in its --work folder.
        for path in (folder / name / "loss.jsonl", folder / f"{name}-work" / "loss.jsonl"):
            if path.is_file():
                found[label] = [json.loads(line) for line in path.read_text().splitlines()]
    return found


def losses(found: dict[str, Log], every: int = 10) -> Rows:
    """The mean loss of every ten steps."""
    longest = max(len(log) for log in found.values())
    return [
        {
            "steps": f"{start + 1}-{start + every}",
            **{
                name: f"{mean(step['loss'] for step in log[start : start + every]):.4g}"
                if len(log) >= start + every
                else None
                for name, log in found.items()
            },
        }
        for start in range(0, longest - every + 1, every)
    ]


def effort(found: dict[str, Log]) -> Rows:
    """Seconds a step and the most memory of every run."""
    return [
        {
            "run": name,
            "steps": len(log),
            "seconds a step": median(step["seconds"] for step in log),
            "of these, worked": median(step["processor_seconds"] for step in log),
            "peak memory (GB)": _gigabytes(log),
        }
        for name, log in found.items()
    ]


def _gigabytes(log: Log) -> float | None:
    peaks = [step["peak_bytes"] / 1e9 for step in log if "peak_bytes" in step]
    return max(peaks) if peaks else None


def flops(path: Path) -> Rows:
    """What `costs` says of a step, and what was counted while one ran."""
    return [
        {
            "recipe": row["recipe"],
            "batch": ", ".join(" x ".join(map(str, own)) for own in row["shapes"].values()),
            "costs (TFLOP)": row["said"] / 1e12,
            "counted (TFLOP)": row["counted"] / 1e12,
            "counted / costs": f"{row['ratio']:.4f}",
        }
        for row in json.loads(path.read_text())
    ]


def margin(path: Path) -> Rows:
    """What training did to held-out preferences, nats per token."""
    return [
        {
            "trained": RUNS.get(row["trained"], row["trained"]),
            "triples": row["triples"],
            **{
                part: "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row[part])
                for part in ("margin", "chosen", "rejected")
            },
            "KL per token": row["kl"],
        }
        for row in json.loads(path.read_text())
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line has besides `--out`."""
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--flops", type=Path, help="of recipes/training_flops.py")
    parser.add_argument(
        "--margin", type=Path, nargs="*", default=[], help="of recipes/trained_margin.py"
    )


def tables(runs: Path, counted: Path | None, measured: Sequence[Path]) -> dict[str, Rows]:
    """Every table, by its heading."""
    found = logs(runs)
    report: dict[str, Rows] = {"Loss": losses(found), "Time and memory": effort(found)}
    if counted is not None:
        report["FLOPs of a step"] = flops(counted)
    if measured:
        report["Held-out preferences"] = [row for path in measured for row in margin(path)]
    return report


def main() -> None:
    """Print and write every table."""
    given = options(__doc__ or "", arguments)
    notes = ["Loss is the mean of ten steps. Seconds and memory are those of the run's machine."]
    write("training", "Training", tables(given.runs, given.flops, given.margin), notes, given.out)


if __name__ == "__main__":
    main()
