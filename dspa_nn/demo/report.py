"""The demo's figures as plain values, for `report.json`."""

import resource
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from dspa_nn.demo.measure import Outcome
from dspa_nn.steering import DSPAMethod
from dspa_nn.triples import DemoRow

PACKAGES = ("dspa-nn", "torch", "transformers", "nnsight", "sae-lens", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that the figures depend on."""
    versions = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that is not installed
            versions[name] = "not installed"
    return versions


def settings(method: DSPAMethod) -> dict[str, Any]:
    """How a method's map was fitted, and how it steers."""
    map = method.map
    steering = {name: value for name, value in method.options.items() if name != "planner"}
    fitting = {k: getattr(map, k) for k in ("percentile", "prompt_tokens", "gate", "sparsify")}
    rest = {"planner": "planner" in method.options, "entries": len(map.values)}
    return steering | fitting | rest


def figures(outcome: Outcome, rows: Sequence[DemoRow], seed: int) -> dict[str, Any]:
    """Every figure with its interval, over all triples and for each kind, and its values."""
    kinds = ("", *sorted({row.kind for row in rows}))
    return {
        name: {kind or "all": outcome.interval(name, seed, rows, kind).to_dict() for kind in kinds}
        | {"values": [None if np.isnan(v) else round(float(v), 6) for v in values]}
        for name, values in outcome.values.items()
    }


def answers(outcomes: Sequence[Outcome], rows: Sequence[DemoRow]) -> list[dict[str, Any]]:
    """Every prompt with what was answered under each method."""
    entries: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        texts = {
            outcome.name: outcome.answers.texts[index]
            for outcome in outcomes
            if outcome.answers is not None and index < len(outcome.answers.texts)
        }
        entries.append({"prompt": row.text, "kind": row.kind, "answers": texts})
    return entries


def edits_by_kind(outcome: Outcome, rows: Sequence[DemoRow]) -> dict[str, dict[int, int]]:
    """Kind of prompt -> output latent -> how often it was edited in the answers."""
    by_kind: dict[str, dict[int, int]] = {kind: {} for kind in sorted({row.kind for row in rows})}
    if outcome.answers is None:
        return by_kind
    start = 0
    for log in outcome.answers.logs:
        for edit in log:
            times = by_kind[rows[start + edit.row].kind]
            times[edit.latent] = times.get(edit.latent, 0) + 1
        start += log.rows
    return by_kind


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most / 1e6
