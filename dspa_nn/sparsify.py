"""Which entries of the conditional-difference map are kept: METHOD section 3.4 and its variants.

The map comes in blocks of rows (`fitting.difference_map`) and leaves as compressed sparse rows.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dspa_nn.shapes import SparseTable

# Called once for each pass over the map; yields row numbers [b] and rows [b, d_out].
Blocks = Callable[[], Iterator[tuple[np.ndarray, SparseTable]]]

# Entries held beyond what a budget needs, before they are pruned.
_SLACK = 1 << 20


class SparseRows(NamedTuple):
    """The rows of a map that are not empty, as compressed sparse rows, and the threshold t."""

    rows: np.ndarray
    indptr: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    threshold: float


def among_extremes(block: np.ndarray, k_diff: int) -> np.ndarray:
    """Mark each row's k_diff largest and k_diff smallest entries, ties to the lower index.

    >>> among_extremes(np.array([[3.0, 1.0, 2.0, 1.0]]), 1)
    array([[ True,  True, False, False]])

    Zeros are ranked like any other value. The whole row is marked where d_out <= 2 k_diff.
    """
    if block.shape[1] <= 2 * k_diff:
        return np.ones(block.shape, dtype=bool)
    return _largest(block, k_diff) | _largest(-block, k_diff)


def _largest(block: np.ndarray, k: int) -> np.ndarray:
    cut = -np.partition(-block, k - 1, axis=1)[:, k - 1 : k]
    above, equal = block > cut, block == cut
    room = k - above.sum(axis=1, keepdims=True)
    return above | (equal & (np.cumsum(equal, axis=1) <= room))


def paper_threshold(blocks: Blocks, k_diff: int) -> float:
    """t: the smallest |value| that is not 0 among every row's k_diff largest and smallest.

    >>> from scipy.sparse import csr_array
    >>> rows = csr_array([[0.5, 0.0, 0.0, -0.25], [0.0, 0.0, 0.0, 0.0]])
    >>> paper_threshold(lambda: iter([(np.arange(2), rows)]), 1)
    0.25

    The values of a row's extremes suffice, so nothing is sorted whole. 0 if every entry is 0.
    """
    smallest = np.inf
    for _, block in blocks():
        width = block.shape[1]
        extremes = block.data
        if width > 2 * k_diff:
            ranked = np.partition(block.toarray(), (k_diff - 1, width - k_diff), axis=1)
            extremes = np.concatenate([ranked[:, :k_diff], ranked[:, -k_diff:]], axis=1)
        sizes = np.abs(extremes[extremes != 0])
        smallest = min(smallest, sizes.min(initial=np.inf))
    return float(smallest) if np.isfinite(smallest) else 0.0


def sparsify_map(
    blocks: Blocks, rule: str, k_diff: int, max_entries: int | None = None
) -> SparseRows:
    """Keep what the rule keeps, then raise t until `max_entries` fit.

    >>> from scipy.sparse import csr_array
    >>> rows = csr_array(np.array([[0.5, 0.0, -0.25], [0.125, 0.0, 0.0]], dtype=np.float32))
    >>> sparsify_map(lambda: iter([(np.array([2, 7]), rows)]), "none", 16, max_entries=2)
    SparseRows(rows=array([2]), indptr=array([0, 2]), columns=array([0, 2], dtype=int32), \
values=array([ 0.5 , -0.25], dtype=float32), threshold=0.25)

    `rule`: "paper" (one t for all rows, METHOD 3.4), "rows" (each row keeps its own k_diff largest
    and smallest), "none". Under a budget, t is the smallest stored |value| such that all entries
    with |value| >= t fit; entries tied at t stay or go together.
    """
    from scipy.sparse import csr_array

    threshold = paper_threshold(blocks, k_diff) if rule == "paper" else 0.0
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    held, floor = 0, 0.0
    for rows, block in blocks():
        size = np.abs(block.data)
        keep = (size >= threshold) & (size > floor)
        at = np.repeat(np.arange(len(rows)), np.diff(block.indptr))[keep]
        column, value = block.indices[keep], block.data[keep]
        if rule == "rows":
            mark = among_extremes(block.toarray(), k_diff)[at, column]
            at, column, value = at[mark], column[mark], value[mark]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=len(rows)))])
        kept = csr_array((value, column, bounds), shape=block.shape)
        kept.sort_indices()
        parts.append((rows[at], kept.indices.astype(np.int32), kept.data))
        held += len(at)
        # Prune now and then, so that what is held stays a few times the budget.
        if max_entries is not None and held > 4 * max_entries + _SLACK:
            parts, floor = _prune(parts, max_entries, floor)
            held = sum(len(part[0]) for part in parts)
    if max_entries is not None and held > max_entries:
        parts, floor = _prune(parts, max_entries, floor)
    row, column, value = _join(parts)
    if floor > 0:
        over = np.nextafter(np.float32(floor), np.float32(np.inf))
        threshold = float(np.abs(value).min(initial=np.inf)) if len(value) else float(over)
    lengths = np.bincount(row)
    rows = np.flatnonzero(lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths[rows])])
    return SparseRows(rows, indptr, column, value, threshold)


_Parts = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def _prune(parts: _Parts, budget: int, floor: float) -> tuple[_Parts, float]:
    """Drop everything not above the (budget + 1)-th largest |value|: none of it can stay."""
    row, column, value = _join(parts)
    size = np.abs(value)
    if len(size) <= budget:
        return [(row, column, value)], floor
    floor = float(np.partition(size, len(size) - budget - 1)[len(size) - budget - 1])
    keep = size > floor
    return [(row[keep], column[keep], value[keep])], floor


def _join(parts: _Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    row, column, value = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    return row, column, value
