"""Runs of the model in pieces that are kept on disk: one that was cut off goes on from there."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dspa_nn as dn
from dspa_nn.evaluation import margins
from dspa_nn.steering import SteeringMethod
from dspa_nn.triples import PreferenceTriple

SIDES = ("chosen", "rejected")
FIGURES = ("log_prob", "change", "kl", "edits", "share")
PIECE = 10
Arrays = dict[str, np.ndarray]


def kept(path: Path, key: Any, make: Callable[[], Any]) -> Any:
    """What a file holds, or what `make` returns, written there.

    A file that was made with another `key` is made anew.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    if path.exists():
        found = json.loads(path.read_text())
        if found["key"] == digest:
            return found["value"]
    value = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"key": digest, "value": value}))
    part.replace(path)
    return value


def measure(
    dspa: dn.DSPA,
    triples: Sequence[PreferenceTriple],
    methods: Sequence[SteeringMethod],
    folder: Path,
    key: Any,
) -> dict[str, Arrays]:
    """Name of a method -> "chosen.change" and so on, one value per triple.

    key: whatever else the figures depend on (settings, data); pieces of another key are made anew.
    """
    pieces: list[dict[str, dict[str, list[float]]]] = []
    for start in range(0, len(triples), PIECE):
        some = list(triples[start : start + PIECE])
        begun = time.perf_counter()

        def run(some: list[PreferenceTriple] = some) -> dict[str, dict[str, list[float]]]:
            measured = margins(dspa, some, methods)
            return {
                name: {
                    f"{side}.{figure}": getattr(getattr(one, side), figure).tolist()
                    for side in SIDES
                    for figure in FIGURES
                }
                for name, one in zip(["unsteered", *(m.name for m in methods)], measured,
                                     strict=True)
            }  # fmt: skip

        names = [method.name for method in methods]
        path = folder / f"margins-{start:05d}.json"
        pieces.append(kept(path, [key, names, [vars(t) for t in some]], run))
        print(f"{path}: {time.perf_counter() - begun:.0f} s", flush=True)
    return {
        name: {
            figure: np.concatenate([np.asarray(piece[name][figure]) for piece in pieces])
            for figure in pieces[0][name]
        }
        for name in pieces[0]
    }
