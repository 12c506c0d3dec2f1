"""Counts of whole data sets in small files, with the split of every row."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dspa_nn.counts import LENGTHS, TABLES, ActivationCounts, CountRows, sparse_rows
from dspa_nn.triples import (
    SPLITS,
    PreferenceTriple,
    Skipped,
    hh_rlhf_rows,
    read_demo_rows,
    read_row,
    ultrafeedback_rows,
)

ROWS: dict[str, Callable[[str], range]] = {
    "ultrafeedback": ultrafeedback_rows,
    "hh-rlhf": hh_rlhf_rows,
}
FILES = {
    "ultrafeedback": Path("ultrafeedback/triples.jsonl"),
    "hh-rlhf": Path("hh-rlhf/harmless-base-test.jsonl.gz"),
}
DEMO: tuple[Any, ...] = ("news", "plans", "register")
SETS = (*DEMO, *FILES)


class Source(NamedTuple):
    """A data set: the row of each triple in its file, and "fit", "dev", "test" or ""."""

    rows: list[int]
    triples: list[PreferenceTriple]
    splits: list[str]

    def of(self, split: str, most: int | None = None) -> dict[int, PreferenceTriple]:
        """Row -> triple of a split, in order, at most so many."""
        mine = zip(self.rows, self.triples, self.splits, strict=True)
        return dict([(row, triple) for row, triple, own in mine if own == split][:most])


def read_source(name: Any, data: Path, most: int | None = None) -> Source:
    """All usable triples of a set; "" is the split of rows that no experiment uses.

    Those are rows of a later split whose first message an earlier one holds.
    """
    if name in DEMO:
        demo = read_demo_rows(name)[:most]
        return Source(list(range(len(demo))), [r.triple for r in demo], [r.split for r in demo])
    path = data / FILES[name]
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()][:most]
    split_of = {row: split for split in SPLITS for row in ROWS[name](split)}
    first: dict[str, int] = {}  # the earliest split that opens so
    found = Source([], [], [])
    for row, line in enumerate(lines):
        try:
            triple = read_row(line, True)
        except Skipped:
            continue
        at = SPLITS.index(split_of[row])
        opening = triple.messages[0]["content"]
        earliest = first.setdefault(opening, at)
        found.rows.append(row)
        found.triples.append(triple)
        found.splits.append(split_of[row] if earliest == at else "")
    return found


def pack(counts: ActivationCounts, rows: list[int], splits: list[str], path: Path) -> None:
    """Write counts as steps from latent to latent and small integers, zipped."""
    arrays: dict[str, Any] = {"rows": np.asarray(rows, np.int32)[counts.index]}
    for name in LENGTHS:
        arrays[name] = getattr(counts, name).astype(np.int32)
    for name in TABLES:
        table = getattr(counts, name)
        per_row = np.diff(table.indptr)
        steps = np.diff(table.indices, prepend=0)
        starts = table.indptr[:-1][per_row > 0]
        steps[starts] = table.indices[starts]
        for part, values in (("steps", steps), ("data", table.data), ("per_row", per_row)):
            small = values.astype(np.uint16)
            assert (small == values).all()
            arrays[f"{name}.{part}"] = small
    about = {
        "d_in": counts.d_in, "d_out": counts.d_out, "provenance": counts.provenance,
        "skipped": counts.skipped, "splits": [splits[place] for place in counts.index],
    }  # fmt: skip
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez_compressed(path, **arrays)


def unpack(path: Path) -> dict[str, ActivationCounts]:
    """The counts of each split, with the rows of the file as their index."""
    arrays = dict(np.load(path))
    about = json.loads(arrays["about"].tobytes())
    tables = []
    for name in TABLES:
        width = about["d_in"] if name in ("content", "markup") else about["d_out"]
        per_row = arrays[f"{name}.per_row"].astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(per_row)])
        steps = arrays[f"{name}.steps"].astype(np.int64)
        # Each row starts anew: what the rows before it came to is taken off.
        whole = np.cumsum(steps)
        before = np.concatenate([[0], whole])[indptr[:-1]]
        indices = (whole - np.repeat(before, per_row)).astype(np.int32)
        tables.append(sparse_rows(arrays[f"{name}.data"].astype(np.int32), indices, indptr, width))
    rows = CountRows(arrays["rows"], *tables, *(arrays[name] for name in LENGTHS))
    counts = ActivationCounts(rows, provenance=about["provenance"], skipped=about["skipped"])
    splits = np.asarray(about["splits"])[np.argsort(arrays["rows"], kind="stable")]
    return {split: counts.subset(counts.index[splits == split]) for split in SPLITS}
