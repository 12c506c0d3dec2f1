"""What every benchmark shares: contenders in turns, paired ratios, and a report with its machine.

    times = run_interleaved({"plain": plain, "ours": ours}, repeats=10)
    mean, low, high = ratio(times["plain"], times["ours"])  # how many times faster ours is
    write("fit", "Speed of fitting", rows, ["what the figures mean"], options.out)

Times of one contender alone say as much about the machine's other work as about the code. So all
contenders run in one process, in turns, and what is reported is their ratio, pair by pair.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dspa_nn import __version__
from dspa_nn.evaluation import bootstrap

PACKAGES = ("torch", "nnsight", "transformers", "sae-lens")
Rows = Sequence[Mapping[str, Any]]


def options(
    description: str, extend: Callable[[argparse.ArgumentParser], Any] | None = None
) -> argparse.Namespace:
    """Read a script's command line: `--quick`, `--out`, and what `extend` adds to the parser."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small samples, a few minutes")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder for the report"
    )
    if extend is not None:
        extend(parser)
    return parser.parse_args()


def run_interleaved(
    contenders: Mapping[str, Callable[[], Any]],
    repeats: int,
    *,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run the contenders in turns; return the seconds of each, one a repeat.

    Every second repeat runs them in reverse, so that none always comes after the same other one.
    The first `warm_up` rounds are not reported: they pay for imports, caches and allocations.
    clock: `time.process_time` counts the process's own seconds on a busy machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-warm_up, repeats):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            start = clock()
            contenders[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a kernel runs on when its call has returned
            taken = clock() - start
            if turn >= 0:
                seconds[name].append(taken)
    return seconds


def ratio(times_a: Sequence[float], times_b: Sequence[float]) -> tuple[float, float, float]:
    """Return (mean, low, high) of a/b over paired repeats: geometric mean, 95 % bootstrap.

    >>> ratio([2.0, 4.0], [1.0, 2.0])
    (2.0, 2.0, 2.0)
    """
    if len(times_a) != len(times_b):
        raise ValueError(f"{len(times_a)} and {len(times_b)} repeats came: they are no pairs")
    interval = bootstrap(np.log(times_a) - np.log(times_b)).exp()
    return interval.mean, interval.low, interval.high


def surroundings() -> dict[str, Any]:
    """Say on what machine, with which versions and under what load the process runs."""
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "dspa_nn": __version__,
    }
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gib": round(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
            ),
            "system": platform.platform(terse=True),
            "torch_threads": _threads(),
        },
        "versions": versions,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def write(
    name: str, title: str, rows: Rows | Mapping[str, Rows], notes: Sequence[str], folder: Path
) -> str:
    """Write `<name>.json` and `<name>.md` into `folder`; print and return the Markdown.

    rows: one mapping a row, with the same keys in every row; or several such tables by heading.
    """
    tables = dict(rows) if isinstance(rows, Mapping) else {"": rows}
    around = surroundings()
    body = [f"# {title}", ""]
    for heading, table in tables.items():
        body += ([f"## {heading}", ""] if heading else []) + [markdown(table), ""]
    body += [f"- {note}" for note in notes] + ([""] if notes else [])
    machine, load = around["machine"], ", ".join(map(str, around["load_average"]))
    body += [
        f"{around['date']}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['torch_threads']} torch thread(s), load average "
        f"{load}; " + ", ".join(f"{key} {value}" for key, value in around["versions"].items()),
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(body)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    record = {"name": name, "title": title, **around, "rows": rows, "notes": list(notes)}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text)
    return text


def markdown(rows: Rows) -> str:
    """Lay rows out as a Markdown table; floats get four significant digits.

    >>> print(markdown([{"model": "tiny", "ratio": 2.03125}]))
    | model | ratio |
    |---|---|
    | tiny | 2.031 |
    """
    if not rows:
        return "(no rows)"
    lines = [list(rows[0]), *([_cell(row[key]) for key in rows[0]] for row in rows)]
    lines.insert(1, ["---"] * len(rows[0]))
    made = ["| " + " | ".join(line) + " |" for line in lines]
    made[1] = made[1].replace(" ", "")
    return "\n".join(made)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, (tuple, list)) and len(value) == 3:
        mean, low, high = (_cell(float(part)) for part in value)
        return f"{mean} [{low}, {high}]"
    return "" if value is None else str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _threads() -> int:
    return torch.get_num_threads()
