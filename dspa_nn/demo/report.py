"""The demo's figures as plain values, for `report.json`."""

import resource
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from dspa_nn.demo.measure import Outcome
from dspa_nn.evaluation.methods import Condition
from dspa_nn.triples import DemoRow

PACKAGES = ("dspa-nn", "torch", "transformers", "nnsight", "sae-lens", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that the figures hang on."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[name] = "not installed"
    return found


def settings(condition: Condition) -> dict[str, Any]:
    """How a condition's map was fitted, and how it steers."""
    map = condition.map
    own = {k: v for k, v in condition.options.items() if k != "planner"}
    own |= {k: getattr(map, k) for k in ("percentile", "prompt_tokens", "gate", "sparsify")}
    return own | {"planner": "planner" in condition.options, "entries": len(map.values)}


def figures(own: Outcome, rows: Sequence[DemoRow], seed: int) -> dict[str, Any]:
    """Every figure with its interval, over all triples and for each kind, and its values."""
    kinds = ("", *sorted({row.kind for row in rows}))
    return {
        name: {kind or "all": own.interval(name, seed, rows, kind).to_dict() for kind in kinds}
        | {"values": [None if np.isnan(v) else round(float(v), 6) for v in values]}
        for name, values in own.values.items()
    }


def answers(outcomes: Sequence[Outcome], rows: Sequence[DemoRow]) -> list[dict[str, Any]]:
    """Every prompt with what was answered under each condition."""
    said = []
    for place, row in enumerate(rows):
        texts = {
            own.name: own.answers.texts[place]
            for own in outcomes
            if own.answers is not None and place < len(own.answers.texts)
        }
        said.append({"prompt": row.text, "kind": row.kind, "answers": texts})
    return said


def edits_by_kind(own: Outcome, rows: Sequence[DemoRow]) -> dict[str, dict[int, int]]:
    """Kind of prompt -> output latent -> how often it was edited in the answers."""
    found: dict[str, dict[int, int]] = {kind: {} for kind in sorted({row.kind for row in rows})}
    if own.answers is None:
        return found
    place = 0
    for log in own.answers.logs:
        for edit in log:
            times = found[rows[place + edit.row].kind]
            times[edit.latent] = times.get(edit.latent, 0) + 1
        place += log.rows
    return found


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most / 1e6
