"""Which entries of the conditional-difference map are kept: docs/method.md 3.4 and its variants.

The map comes in blocks of rows (`DifferenceSums`) and leaves as compressed sparse rows.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Float32, Integer

from dspa_nn.maps.options import Sparsification

# Entries kept beyond what a budget needs, before they are pruned.
_SLACK = 1 << 20
# Entries of a block that are compared at a time, so that masks and copies stay small.
_CHUNK = 1 << 22


@runtime_checkable
class RowBlocks(Protocol):
    """A map in blocks of rows, any of which can be computed again: row numbers and these rows."""

    def __len__(self) -> int: ...

    def __getitem__(
        self, block: int, /
    ) -> tuple[Integer[np.ndarray, " b"], Float32[np.ndarray, "b d_out"]]: ...


class SparseRows(NamedTuple):
    """The rows of a map that are not empty, as compressed sparse rows, and the threshold t."""

    rows: Integer[np.ndarray, " r"]
    indptr: Integer[np.ndarray, " r_and_1"]
    columns: Integer[np.ndarray, " nnz"]
    values: Float32[np.ndarray, " nnz"]
    threshold: float


class KeptEntries(NamedTuple):
    """What was kept of a block: its row numbers, entries of each, and the entries row by row."""

    rows: Integer[np.ndarray, " b"]
    lengths: Integer[np.ndarray, " b"]
    columns: Integer[np.ndarray, " kept"]
    values: Float32[np.ndarray, " kept"]

    def above(self, floor: float) -> "KeptEntries":
        """The entries whose |value| is above the floor."""
        keep = np.abs(self.values) > floor
        row = np.repeat(np.arange(len(self.rows)), self.lengths)[keep]
        lengths = np.bincount(row, minlength=len(self.rows))
        return KeptEntries(self.rows, lengths, self.columns[keep], self.values[keep])


def among_extremes(block: Float[np.ndarray, "b d_out"], k_diff: int) -> Bool[np.ndarray, "b d_out"]:
    """Mark each row's k_diff largest and k_diff smallest entries, ties to the lower index.

    >>> among_extremes(np.array([[3.0, 1.0, 2.0, 1.0]]), 1)
    array([[ True,  True, False, False]])

    Zeros are ranked like any other value. The whole row is marked where d_out <= 2 k_diff.
    """
    if block.shape[1] <= 2 * k_diff:
        return np.ones(block.shape, dtype=bool)
    return _largest(block, k_diff) | _largest(-block, k_diff)


def _largest(block: Float[np.ndarray, "b d_out"], k: int) -> Bool[np.ndarray, "b d_out"]:
    # The k-th largest of the maxima of some runs of a row is at most the row's k-th largest entry,
    # and so few entries reach it that only they are sorted.
    length = max(1, block.shape[1] // (8 * k))
    runs = block.shape[1] // length
    whole_runs = block[:, : runs * length]
    highest = rearrange(whole_runs, "b (runs length) -> b runs length", length=length).max(-1)
    marks = block >= np.partition(highest, runs - k, axis=1)[:, runs - k, None]
    for row in np.flatnonzero(np.count_nonzero(marks, axis=1) > k):
        candidates = np.flatnonzero(marks[row])
        best = np.argsort(-block[row, candidates], kind="stable")[:k]
        marks[row] = False
        marks[row, candidates[best]] = True
    return marks


def lowered(threshold: float, block: Float[np.ndarray, "b d_out"], k_diff: int) -> float:
    """t, or less if these rows ask for less: docs/method.md 3.4 for a block [b, d_out].

    >>> rows = np.array([[0.5, 0.0, 0.0, -0.25], [0.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    >>> lowered(np.inf, rows, 1)
    0.25

    t is the smallest |value| that is not 0 among every row's k_diff largest and smallest. A row
    with k_diff entries of at least t and as many of at most -t cannot lower it, so that few rows
    are ranked once t is near its final value.
    """
    width = block.shape[1]
    extremes = block
    if width > 2 * k_diff:
        high = np.count_nonzero(block >= threshold, axis=1)
        low = np.count_nonzero(block <= -threshold, axis=1)
        few = block[(high < k_diff) | (low < k_diff)]
        ranked = np.partition(few, (k_diff - 1, width - k_diff), axis=1)
        extremes = np.concatenate([ranked[:, :k_diff], ranked[:, -k_diff:]], axis=1)
    sizes = np.abs(extremes[extremes != 0])
    return min(threshold, float(sizes.min(initial=np.inf)))


def sparsify_map(
    blocks: RowBlocks, rule: Sparsification, k_diff: int, max_entries: int | None = None
) -> SparseRows:
    """Keep what the rule keeps, then raise t until `max_entries` fit.

    >>> block = np.array([[0.5, 0.0, -0.25], [0.125, 0.0, 0.0]], dtype=np.float32)
    >>> sparsify_map([(np.array([2, 7]), block)], "none", 16, max_entries=2)
    SparseRows(rows=array([2]), indptr=array([0, 2]), columns=array([0, 2], dtype=int32), \
values=array([ 0.5 , -0.25], dtype=float32), threshold=0.25)

    `rule`: "paper" (one t for all rows, docs/method.md 3.4), "rows" (each row keeps its k_diff
    largest and its k_diff smallest), "none". Under a budget, t is the smallest stored |value| such
    that all entries with |value| >= t fit; entries tied at t stay or go together.

    Each block is computed once. The paper's t is known after the last one only; but it can only
    fall, so what is below the t of the moment is left out, and the blocks that a later block's
    lower t would have kept more of are computed again. Where the rows of fewest open gates come
    first, as they do from `DifferenceSums`, these blocks are few and quick, or none.
    """
    threshold = np.inf if rule == "paper" else 0.0
    kept: list[KeptEntries] = []
    cuts: list[float] = []
    floor = 0.0

    def prune(room: int) -> None:
        # Everything not above the (max_entries + 1)-th largest |value| goes: none of it can stay.
        nonlocal kept, floor
        if max_entries is None or sum(len(part.values) for part in kept) <= max_entries + room:
            return
        sizes = np.abs(np.concatenate([part.values for part in kept]))
        rank = len(sizes) - max_entries - 1
        floor = float(np.partition(sizes, rank)[rank])
        kept = [part.above(floor) for part in kept]

    for number in range(len(blocks)):
        rows, block = blocks[number]
        if rule == "paper":
            for chunk in _chunks(block):
                threshold = lowered(threshold, chunk, k_diff)
        kept.append(_keep(rows, block, rule, k_diff, threshold, floor))
        cuts.append(threshold)
        # Now and then, so that what is kept stays a few times the budget.
        prune(3 * (max_entries or 0) + _SLACK)
    prune(0)
    for number, cut in enumerate(cuts):
        if threshold < cut and floor < cut:
            kept[number] = _keep(*blocks[number], rule, k_diff, threshold, floor)
            prune(3 * (max_entries or 0) + _SLACK)
    prune(0)
    return _joined(kept, 0.0 if np.isinf(threshold) else threshold, floor)


def _chunks(block: Float32[np.ndarray, "b d_out"]) -> Iterator[Float32[np.ndarray, "_ d_out"]]:
    step = max(1, _CHUNK // max(1, block.shape[1]))
    for start in range(0, len(block), step):
        yield block[start : start + step]


def _keep(
    rows: Integer[np.ndarray, " b"],
    block: Float32[np.ndarray, "b d_out"],
    rule: Sparsification,
    k_diff: int,
    threshold: float,
    floor: float,
) -> KeptEntries:
    """The entries of a block that the rule keeps, of at least the threshold and above the floor."""
    lengths: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    values: list[np.ndarray] = []
    # The smallest |value| to be kept: at least t, above the floor, and not 0.
    least = max(np.float32(threshold), np.nextafter(np.float32(floor), np.float32(np.inf)))
    width = block.shape[1]
    for chunk in _chunks(block):
        keep = among_extremes(chunk, k_diff) if rule == "rows" else np.abs(chunk) >= least
        entry = np.flatnonzero(keep)
        if rule == "rows":
            entry = entry[np.abs(chunk.ravel()[entry]) >= least]
        lengths.append(np.bincount(entry // width, minlength=len(chunk)))
        columns.append((entry % width).astype(np.int32))
        values.append(chunk.ravel()[entry])
    return KeptEntries(
        rows, np.concatenate(lengths), np.concatenate(columns), np.concatenate(values)
    )


def _joined(kept: list[KeptEntries], threshold: float, floor: float) -> SparseRows:
    """All rows that kept an entry, ascending; `kept` is used up."""
    row = np.concatenate([np.empty(0, np.int64), *(part.rows for part in kept)])
    length = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in kept)])
    order = np.argsort(row)
    order = order[length[order] > 0]
    indptr = np.concatenate([[0], np.cumsum(length[order])])
    start = np.zeros(len(row), dtype=np.int64)
    start[order] = indptr[:-1]
    columns, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    first = len(row)
    while kept:  # one after another, so that no entry is in memory twice
        part = kept.pop()
        first -= len(part.rows)
        shift = start[first : first + len(part.rows)] - np.cumsum(part.lengths) + part.lengths
        entry = np.repeat(shift, part.lengths) + np.arange(len(part.values))
        columns[entry], values[entry] = part.columns, part.values
    if floor > 0:
        over = np.nextafter(np.float32(floor), np.float32(np.inf))
        threshold = float(np.abs(values).min(initial=np.inf)) if len(values) else float(over)
    return SparseRows(row[order], indptr, columns, values, threshold)
