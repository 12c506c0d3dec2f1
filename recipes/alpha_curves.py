"""The demo's maps over alpha, ablating alone and in both directions: docs/howto/audit.md.

    python recipes/alpha_curves.py --out alpha               # half an hour on one core
    python recipes/alpha_curves.py --out alpha --device cuda  # 7 minutes beside other runs

Each map is fitted on 250 triples and measured on the set's held-out ones. A curve is a JSON file as
soon as it is measured, and is not measured again; the picture is drawn from the files.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from dspa_nn import DSPA
from dspa_nn.demo import SETS
from dspa_nn.evaluation import AlphaCurve, AlphaPoint, Effect, Interval, alpha_curve
from dspa_nn.models import torch_module
from dspa_nn.steering import Mode, SteeringOptions
from dspa_nn.triples import take_demo_rows

ALPHAS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.6, 3.2)
MODES: tuple[Mode, ...] = ("ablate", "both")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--triples", type=int, default=250, help="to fit on, and to measure at most"
    )
    parser.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    files: dict[tuple[str, Mode], Path] = {
        (name, mode): given.out / f"{name}-{mode}.json" for name in SETS for mode in MODES
    }
    if not all(path.exists() for path in files.values()):
        measure(files, given)
    read: dict[tuple[str, Mode], Any] = {
        key: json.loads(path.read_text()) for key, path in files.items()
    }
    draw(read, given.out / "alpha.svg")


def measure(files: Mapping[tuple[str, Mode], Path], given: argparse.Namespace) -> None:
    dspa = DSPA.from_preset("smollm2-135m-instruct")
    torch_module(dspa.model).to(given.device)
    for name, shown in SETS.items():
        rows = shown.read()
        fit, test = (
            [row.triple for row in take_demo_rows(rows, split, given.triples)]
            for split in ("fit", "test")
        )
        map = dspa.count(fit, progress=False).fit(**shown.fit)
        for mode in MODES:
            if files[name, mode].exists():
                continue
            options: SteeringOptions = {**shown.steering, "mode": mode}
            options.pop("alpha", None)
            curve = alpha_curve(dspa, map, test, given.alphas, **options)
            print(f"{name}, {mode}\n{curve}\n", flush=True)
            told = {"set": name, "mode": mode, "n": len(test), "n_fit": len(fit)}
            rows_ = curve.to_pandas().to_dict("records")
            files[name, mode].write_text(json.dumps(told | {"rows": rows_}))


def draw(read: Mapping[tuple[str, Mode], Mapping[str, Any]], path: Path) -> None:
    """One column for each set and mode: the margin with its parts above, the KL below."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "alpha", "font.size": 9})
    figure, axes = plt.subplots(
        2, len(read), sharex=True, sharey="row", figsize=(2.6 * len(read), 5),
        layout="constrained", height_ratios=(2, 1), squeeze=False,
    )  # fmt: skip
    for column, ((name, mode), told) in enumerate(read.items()):
        above, below = axes[:, column]
        curve_of(told["rows"]).plot((above, below))
        above.set_title(f"{name}, {mode} (n = {told['n']})", fontsize="medium")
        above.set_xscale("log")
        if column:
            above.set_ylabel("")
            below.set_ylabel("")
            above.get_legend().remove()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def curve_of(rows: Sequence[Mapping[str, float]]) -> AlphaCurve:
    """A curve from the lines of its table."""
    points: list[AlphaPoint] = []
    for row in rows:
        parts = {
            name: Interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 0)
            for name in ("margin", "chosen", "rejected", "kl", "share")
        }
        effect = Effect(parts["margin"], parts["chosen"], parts["rejected"])
        points.append(AlphaPoint(row["alpha"], effect, parts["kl"], parts["share"]))
    return AlphaCurve(tuple(points))


if __name__ == "__main__":
    main()
