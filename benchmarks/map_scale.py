"""Time, memory and bytes of fitting a map from counts, for widths and numbers of triples.

    python -m benchmarks.map_scale --quick          # width 4,096, under two minutes
    python -m benchmarks.map_scale                  # widths 16,384 and 131,072
    python -m benchmarks.map_scale --full           # 61,000 triples, too: hours

Counts are synthetic (`benchmarks/_synthetic.py`), on disk and memory-mapped; every point is fitted
in a separate process, whose peak memory is read from the system.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import _synthetic
from benchmarks._report import options, ratio, run_interleaved, write
from dspa_nn.maps import DifferenceSums, densities, open_gates, sparsify_map, thresholds

# Width, active latents per token, rule, and numbers of triples.
QUICK = [(4096, 32, "paper", (250, 500, 1000, 2000))]
USUAL = [
    (16_384, 100, "rows", (250, 500, 1000, 2000, 4000)),
    (131_072, 100, "every:64", (250, 500, 1000, 2000)),
]
FULL = [
    (16_384, 100, "rows", (250, 500, 1000, 2000, 4000, 16_000, 61_000)),
    (16_384, 100, "paper", (1000, 4000, 61_000)),
    (131_072, 100, "rows", (250, 500, 1000, 2000, 4000)),
]
# The number of triples for which the growth is extrapolated, by width.
PREDICTED = {4096: 61_000, 16_384: 61_000, 131_072: 4000}


def main() -> None:
    given = options(str(__doc__), _extend)
    if given.point is not None:
        print(json.dumps(point(Path(given.point[0]), int(given.point[1]), given.point[2])))
        return
    sizes = QUICK if given.quick else FULL if given.full else USUAL
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    ways: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=given.out) as scratch:
        for width, active, rule, numbers in sizes:
            folder = (given.tables or Path(scratch)) / f"{width}-{max(numbers)}"
            if not folder.exists():
                _synthetic.write(folder, max(numbers), width, active)
            drawn.append(described(folder, min(500, max(numbers)), active))
            for n in numbers:
                command = [sys.executable, "-m", "benchmarks.map_scale"]
                command += ["--point", str(folder), str(n), rule]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                row = {"width": width, "rule": rule, **json.loads(done.stdout)}
                (samples if rule.startswith("every:") else rows).append(row)
                print(row, file=sys.stderr, flush=True)
            if all(row["width"] != width for row in ways):
                ways += compared(folder, min(2000, max(numbers)), 2 if given.quick else 4)
    tables = {
        "One fit": rows,
        "One fit, predicted from some of its blocks": samples,
        "Growth with N": growth([*rows, *samples]),
        "Ways of summing, one block of rows": ways,
        "What was drawn": [embedded(), *drawn],
    }
    notes = [
        "peak: the most memory of the process that fits; private: without the pages of the mapped "
        "table, which the system takes back when it needs them.",
        "adds: what the sum needs, open gates times changed latents; done: what was added, with "
        "the zeros of the columns that are dense.",
        *bandwidth(),
    ]
    write("map_scale", "A map of any size", tables, notes, given.out)
    plot([*rows, *samples], given.out / "map_scale.svg")


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="up to 61,000 triples: hours")
    parser.add_argument("--tables", type=Path, help="folder for the counts, kept and used again")
    parser.add_argument("--point", nargs=3, metavar=("FOLDER", "N", "RULE"), help=argparse.SUPPRESS)


def point(folder: Path, n: int, rule: str) -> dict[str, Any]:
    """A fit with this rule, or with "every:K" one predicted from one block in K."""
    sample = rule.removeprefix("every:")
    return measured(folder, n, rule) if sample == rule else sampled(folder, n, int(sample))


def measured(folder: Path, n: int, rule: Any) -> dict[str, Any]:
    """Fit the first n triples of a table; run in a fresh process."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], private_bytes())

    counts = _synthetic.opened(folder, n)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    fitted = counts.fit(sparsify=rule)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    stop.set()
    watcher.join()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    adds, done = work(counts)
    arrays = (fitted.rows, fitted.indptr, fitted.columns, fitted.values)
    return {
        "N": n,
        "seconds": seconds,
        "CPU seconds": cpu,
        "peak GB": used * (1 if sys.platform == "darwin" else 1024) / 1e9,
        "private GB": peak[0] / 1e9 or None,
        "counts MB": counts.nbytes / 1e6,
        "map MB": sum(array.numpy().nbytes for array in arrays) / 1e6,
        "entries kept": len(fitted.values),
        "adds, 1e9": adds / 1e9,
        "done, 1e9": done / 1e9,
        "1e9 done a CPU second": done / cpu / 1e9,
    }


class Every:
    """Every k-th block of a map: a sample of its rows, from few open gates to many."""

    def __init__(self, blocks: DifferenceSums, k: int) -> None:
        self.blocks, self.k = blocks, k

    def __len__(self) -> int:
        return -(-(len(self.blocks) - self.k // 2) // self.k)

    def __getitem__(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        return self.blocks[at * self.k + self.k // 2]


def sampled(folder: Path, n: int, every: int) -> dict[str, Any]:
    """CPU seconds of a fit with sparsify="rows", predicted from one block in `every`."""
    counts = _synthetic.opened(folder, n)
    start = time.process_time()
    rho = densities(*counts.prompt())
    gates, always = open_gates(rho, thresholds(rho, 90)[1], "active")
    drho = counts.differences()
    blocks = DifferenceSums(gates, always, lambda a, b: drho[a:b], counts.d_out)
    before, start = time.process_time() - start, time.process_time()
    sample = Every(blocks, every)
    kept = sparsify_map(sample, "rows", 16)
    taken = time.process_time() - start
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    adds, done = work(counts)
    return {
        "N": n,
        "blocks": f"{len(sample)} of {len(blocks)}",
        "gates and differences, CPU seconds": before,
        "these blocks": taken,
        "CPU seconds": before + taken * len(blocks) / len(sample),
        "peak GB": used * (1 if sys.platform == "darwin" else 1024) / 1e9,
        "counts MB": counts.nbytes / 1e6,
        "map MB": 8e-6 * len(kept.values) * len(blocks) / len(sample),
        "adds, 1e9": adds / 1e9,
        "done, 1e9": done / 1e9,
    }


def private_bytes() -> int:
    """Memory of this process without pages of mapped files; 0 where the system is not Linux."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("RssAnon")), 0)


def work(counts: Any) -> tuple[int, int]:
    """Additions that a fit at percentile 90 needs (latents that differ), and those that it does."""
    rho = densities(*counts.prompt())
    gates, always = open_gates(rho, thresholds(rho, 90)[1], "active")
    opened = np.diff(gates.indptr)

    def changed(start: int, stop: int) -> Any:
        return counts.differences(slice(start, stop))

    blocks = DifferenceSums(gates, always, changed, counts.d_out)
    step, adds, done = 250, 0, gates.nnz * blocks.n_dense
    for start in range(0, len(counts), step):
        differences = changed(start, min(start + step, len(counts)))
        weight = np.repeat(opened[start : start + step], np.diff(differences.indptr))
        adds += int(weight.sum())
        done += int(weight[blocks.position[differences.indices] >= blocks.n_dense].sum())
    return adds, done


def described(folder: Path, n: int, active: int) -> dict[str, Any]:
    """Means over the first n triples of the sizes that decide the cost of a fit."""
    counts = _synthetic.opened(folder, n)
    rho = densities(*counts.prompt())
    gates, _ = open_gates(rho, thresholds(rho, 90)[1], "active")
    distinct = [getattr(counts, name).nnz / n for name in _synthetic.TABLES]
    return _means(
        f"drawn, width {counts.d_in:,}, {active} active", n, distinct, gates.nnz / n,
        counts.differences().nnz / n,
    )  # fmt: skip


def embedded() -> dict[str, Any]:
    """The same means for the embedded model, on UltraFeedback's first 160 triples, as chats."""
    return _means("embedded model, width 4,096, 32 active", 160, [1091.7, 1713.1, 1495.8], 342.4,
                  2091.3)  # fmt: skip


def _means(
    name: str, n: int, distinct: Sequence[float], opened: float, changed: float
) -> dict[str, Any]:
    return {
        "table": name,
        "triples": n,
        "latents in a prompt": distinct[0],
        "in a chosen response": distinct[1],
        "in a rejected one": distinct[2],
        "open gates": opened,
        "changed latents": changed,
    }


def fits(rows: list[dict[str, Any]]) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """The points of every width and rule."""
    kinds = dict.fromkeys((row["width"], row["rule"]) for row in rows)
    return [
        (width, rule, [row for row in rows if (row["width"], row["rule"]) == (width, rule)])
        for width, rule in kinds
    ]


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exponents of N, from the last three points, and what they predict."""
    lines = []
    for width, rule, points in fits(rows):
        upper = points[-3:]
        n = np.log([row["N"] for row in upper])
        line: dict[str, Any] = {
            "width": width,
            "rule": rule,
            "from N": upper[0]["N"],
            "to N": upper[-1]["N"],
        }
        for key in ("CPU seconds", "peak GB", "counts MB"):
            slope, at_one = np.polyfit(n, np.log([row[key] for row in upper]), 1)
            line[f"{key}: exponent"] = float(slope)
            if PREDICTED[width] > upper[-1]["N"]:
                largest = PREDICTED[width]
                predicted = float(np.exp(at_one + slope * np.log(largest)))
                line[f"{key}: at {largest:,}"] = predicted
        lines.append(line)
    keys = dict.fromkeys(key for line in lines for key in line)
    return [{key: line.get(key) for key in keys} for line in lines]


def compared(folder: Path, n: int, repeats: int) -> list[dict[str, Any]]:
    """One block of 512 rows, summed in several ways that give the same bytes."""
    counts = _synthetic.opened(folder, n)
    rho = densities(*counts.prompt())
    gates, always = open_gates(rho, thresholds(rho, 90)[1], "active")
    drho: Any = counts.differences()
    chosen = np.random.default_rng(0).choice(counts.d_in, 512, replace=False)
    columns = gates.tocsc()[:, np.sort(chosen)]
    by_row = columns.T.tocsr()
    made = partial(DifferenceSums, columns, always[:512], lambda a, b: drho[a:b], counts.d_out)
    blocks = made()
    with mock.patch("dspa_nn.maps.difference_sums._DENSE_ABOVE_ONE_IN", n + 1):
        dense = made()

    ways = {
        "all columns sparse": lambda: (by_row @ drho).toarray(),
        "all columns dense": lambda: dense[0],
        "those that often differ dense, the others looked up (used)": lambda: blocks[0],
    }
    rows, block = blocks[0]
    assert np.array_equal((by_row @ drho / n).toarray().astype(np.float32)[rows], block)
    assert np.array_equal(dense[0][1], block)
    seconds = run_interleaved(ways, repeats)
    used = list(ways)[-1]
    adds = int(np.diff(drho.indptr)[by_row.indices].sum())
    return [
        {
            "width": counts.d_out,
            "N": n,
            "way": way,
            "seconds, median": float(np.median(taken)),
            "times the one used": ratio(taken, seconds[used]),
            "1e9 adds a second": adds / float(np.median(taken)) / 1e9,
        }
        for way, taken in seconds.items()
    ]


def bandwidth() -> list[str]:
    """Bytes a second that numpy moves between memory and one core, the best of five."""
    one, two = np.ones(1 << 26), np.ones(1 << 26)
    speeds = {}
    for name, call, moved in (
        ("copy", lambda: np.copyto(two, one), 16),
        ("add", lambda: np.add(one, two, out=two), 24),
    ):
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        speeds[name] = moved * len(one) / min(taken) / 1e9
    listed = ", ".join(f"{name} {value:.1f} GB/s" for name, value in speeds.items())
    return [f"Memory, one core, numpy: {listed}; an add of a dense block reads 8 bytes."]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory over N, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    # Text stays text: the file is a quarter of the size.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "map_scale", "font.size": 9})
    ticks = sorted({row["N"] for row in rows})
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    lines = (("CPU seconds", "o-", ""), ("seconds", "o:", ", on the clock"))
    memory = (("peak GB", "o-", ", peak"), ("private GB", "o--", ", private"))
    memory += (("counts MB", "o:", ", counts on disk"),)
    for number, (width, rule, points) in enumerate(fits(rows)):
        n = [row["N"] for row in points]
        for axis, drawn in zip(axes, (lines, memory), strict=True):
            for key, style, suffix in drawn:
                unit = 1000 if key.endswith("MB") else 1
                values = [row[key] / unit if row.get(key) else None for row in points]
                if not any(values):
                    continue
                label = f"width {width:,}, {rule}{suffix}"
                axis.loglog(n, values, style, color=f"C{number}", label=label, markersize=4)
    for axis, name in zip(axes, ("seconds of a fit", "GB"), strict=True):
        axis.set(xlabel="triples", ylabel=name)
        axis.grid(which="major", color="0.9")
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks], fontsize=7)
        axis.tick_params(axis="x", which="minor", labelbottom=False)
        axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
