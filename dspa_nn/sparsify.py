"""Which entries of the conditional-difference map are kept: METHOD section 3.4 and its variants.

The map comes in blocks of rows (`fitting.DifferenceMap`) and leaves as compressed sparse rows.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

# Entries held beyond what a budget needs, before they are pruned.
_SLACK = 1 << 20
# Entries of a block that are looked at together.
_CHUNK = 1 << 22


@runtime_checkable
class Blocks(Protocol):
    """Blocks of rows, any of which can be had again: row numbers [b] and float32 [b, d_out]."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int, /) -> tuple[np.ndarray, np.ndarray]: ...


class SparseRows(NamedTuple):
    """The rows of a map that are not empty, as compressed sparse rows, and the threshold t."""

    rows: np.ndarray
    indptr: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    threshold: float


class _Kept(NamedTuple):
    """What was kept of a block: its row numbers, entries of each, and the entries row by row."""

    rows: np.ndarray
    lengths: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def above(self, floor: float) -> "_Kept":
        keep = np.abs(self.values) > floor
        row = np.repeat(np.arange(len(self.rows)), self.lengths)[keep]
        lengths = np.bincount(row, minlength=len(self.rows))
        return _Kept(self.rows, lengths, self.columns[keep], self.values[keep])


def among_extremes(block: np.ndarray, k_diff: int) -> np.ndarray:
    """Mark each row's k_diff largest and k_diff smallest entries, ties to the lower index.

    >>> among_extremes(np.array([[3.0, 1.0, 2.0, 1.0]]), 1)
    array([[ True,  True, False, False]])

    Zeros are ranked like any other value. The whole row is marked where d_out <= 2 k_diff.
    """
    width = block.shape[1]
    if width <= 2 * k_diff:
        return np.ones(block.shape, dtype=bool)
    ranked = np.partition(block, (k_diff - 1, width - k_diff), axis=1)
    low, high = ranked[:, k_diff - 1, None], ranked[:, width - k_diff, None]
    return _first(block >= high, block, high, k_diff) | _first(block <= low, block, low, k_diff)


def _first(marks: np.ndarray, block: np.ndarray, cut: np.ndarray, k: int) -> np.ndarray:
    """Marks [b, d_out] without the last of the entries at the cut in rows of more than k marks."""
    over = np.flatnonzero(np.count_nonzero(marks, axis=1) > k)
    if len(over):
        ties = block[over] == cut[over]
        sure = marks[over] & ~ties
        room = k - np.count_nonzero(sure, axis=1, keepdims=True)
        marks[over] = sure | (ties & (np.cumsum(ties, axis=1) <= room))
    return marks


def lowered(threshold: float, block: np.ndarray, k_diff: int) -> float:
    """t, or less if these rows ask for less: METHOD 3.4 for a block [b, d_out].

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
    blocks: Blocks, rule: str, k_diff: int, max_entries: int | None = None
) -> SparseRows:
    """Keep what the rule keeps, then raise t until `max_entries` fit.

    >>> block = np.array([[0.5, 0.0, -0.25], [0.125, 0.0, 0.0]], dtype=np.float32)
    >>> sparsify_map([(np.array([2, 7]), block)], "none", 16, max_entries=2)
    SparseRows(rows=array([2]), indptr=array([0, 2]), columns=array([0, 2], dtype=int32), \
values=array([ 0.5 , -0.25], dtype=float32), threshold=0.25)

    `rule`: "paper" (one t for all rows, METHOD 3.4), "rows" (each row keeps its own k_diff largest
    and smallest), "none". Under a budget, t is the smallest stored |value| such that all entries
    with |value| >= t fit; entries tied at t stay or go together.

    Each block is computed once. The paper's t is known after the last one only; but it can only
    fall, so what is below the t of the moment is left out, and the blocks that a later block's
    lower t would have kept more of are computed again. Where the rows of fewest open gates come
    first, as they do from `DifferenceMap`, these blocks are few and quick, or none.
    """
    threshold = np.inf if rule == "paper" else 0.0
    kept: list[_Kept] = []
    cuts: list[float] = []
    floor = 0.0

    def prune(room: int) -> None:
        # Everything not above the (max_entries + 1)-th largest |value| goes: none of it can stay.
        nonlocal kept, floor
        if max_entries is None or sum(len(part.values) for part in kept) <= max_entries + room:
            return
        sizes = np.abs(np.concatenate([part.values for part in kept]))
        at = len(sizes) - max_entries - 1
        floor = float(np.partition(sizes, at)[at])
        kept = [part.above(floor) for part in kept]

    for at in range(len(blocks)):
        rows, block = blocks[at]
        if rule == "paper":
            for chunk in _chunks(block):
                threshold = lowered(threshold, chunk, k_diff)
        kept.append(_keep(rows, block, rule, k_diff, threshold, floor))
        cuts.append(threshold)
        # Now and then, so that what is held stays a few times the budget.
        prune(3 * (max_entries or 0) + _SLACK)
    prune(0)
    for at, cut in enumerate(cuts):
        if threshold < cut and floor < cut:
            kept[at] = _keep(*blocks[at], rule, k_diff, threshold, floor)
            prune(3 * (max_entries or 0) + _SLACK)
    prune(0)
    return _joined(kept, 0.0 if np.isinf(threshold) else threshold, floor)


def _chunks(block: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _CHUNK // max(1, block.shape[1]))
    for start in range(0, len(block), step):
        yield block[start : start + step]


def _keep(
    rows: np.ndarray, block: np.ndarray, rule: str, k_diff: int, threshold: float, floor: float
) -> _Kept:
    lengths, columns, values = [], [], []
    for chunk in _chunks(block):
        size = np.abs(chunk)
        keep = (size >= threshold) if threshold > floor else (size > floor)
        if rule == "rows":
            keep &= among_extremes(chunk, k_diff)
        lengths.append(np.count_nonzero(keep, axis=1))
        columns.append(np.nonzero(keep)[1].astype(np.int32))
        values.append(chunk[keep])
    return _Kept(rows, *(np.concatenate(pieces) for pieces in (lengths, columns, values)))


def _joined(kept: list[_Kept], threshold: float, floor: float) -> SparseRows:
    """All rows that kept an entry, ascending."""
    from scipy.sparse import csr_array

    none = _Kept(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.int32, np.float32)))
    parts = [none, *kept]
    kept.clear()
    row, length, column, value = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    del parts
    if floor > 0:
        over = np.nextafter(np.float32(floor), np.float32(np.inf))
        threshold = float(np.abs(value).min(initial=np.inf)) if len(value) else float(over)
    order = np.argsort(row)
    order = order[length[order] > 0]
    width = int(column.max(initial=0)) + 1
    bounds = np.concatenate([[0], np.cumsum(length)])
    table = csr_array((value, column, bounds), shape=(len(row), width))[order]
    indptr = table.indptr.astype(np.int64)
    return SparseRows(row[order], indptr, table.indices.astype(np.int32), table.data, threshold)
