"""The conditional-difference map before it is sparsified, a block of rows at a time."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from dspa_nn.shapes import SparseTable

# A block of rows is dense for a moment: at most so many entries, half a GiB in float64. The
# differences are gone through once for each block.
_BLOCK_ENTRIES = 1 << 26
# One product adds so many triples' differences to so many rows and columns of a block: as much as
# stays in the cache next to a core.
_TRIPLES, _ROWS, _COLUMNS = 512, 256, 256
# So many triples' differences are made ready together.
_PIECE = 2048
# Looking an entry up costs ten times what it costs to add one of a run: columns in which more than
# one triple in so many differs are dense.
_OFTEN = 10
# Differences are held, ready to be added, where they take no more bytes; else made for each block.
_HELD_BYTES = 1 << 31

# Rows [stop - start, d_out] of drho.
Differences = Callable[[int, int], SparseTable]


class _Some(NamedTuple):
    """Some triples' differences: of the columns that often differ, and of the others."""

    often: np.ndarray
    seldom: SparseTable


class DifferenceMap:
    """A = G^T D / N in blocks of rows, each computed when it is asked for; A itself never exists.

    >>> from scipy.sparse import csr_array
    >>> g, d = csr_array([[1.0, 0.0], [1.0, 1.0]]), csr_array([[0.5], [-0.25]])
    >>> blocks = DifferenceMap(g, np.zeros(2, dtype=bool), lambda start, stop: d[start:stop], 1)
    >>> [blocks[at] for at in range(len(blocks))]
    [(array([1, 0]), array([[-0.125],
           [ 0.125]], dtype=float32))]

    Item `at` is the row numbers [b] and these rows, float32 [b, d_out]. Only rows with a gate that
    opened come, those of fewest open gates first. `drho(start, stop)` gives the differences of
    these triples as sparse rows [stop - start, d_out]; it is called again for each block where
    they are too many to be held.

    Each entry is summed in float64 over the triples in their order (docs/method.md 3.3): a matrix
    product
    that is free to add in another order would not give the same doubles. Columns in which many
    triples differ are dense, and what was summed so far goes into the next product as one more row
    of weight 1, ahead of the triples: zeros are added too, but a run of memory is added ten times
    faster than single entries are looked up. In the other columns they are looked up. Work is
    shared out over torch's threads.
    """

    def __init__(
        self, gates: SparseTable, always: np.ndarray, drho: Differences, d_out: int
    ) -> None:
        self.n, self.drho, self.d_out = gates.shape[0], drho, d_out
        self.gates: SparseTable = gates.tocsc().T
        self.always = always
        opened = np.where(always, self.n, np.diff(self.gates.indptr))
        order = np.argsort(opened, kind="stable")
        self.rows = order[opened[order] > 0]
        self.step = max(1, min(_BLOCK_ENTRIES // max(1, d_out), len(self.rows)))
        self.total = np.empty((self.step, d_out))

        differing = np.zeros(d_out, dtype=np.int64)
        starts = range(0, self.n, _PIECE)
        for start in starts:
            differing += np.bincount(self._differences(start).indices, minlength=d_out)
        often = differing * _OFTEN > self.n
        self.often = int(np.count_nonzero(often))
        # Where a column is in the sums, in which those that often differ come first.
        self.place = np.where(often, np.cumsum(often), self.often + np.cumsum(~often)) - 1
        nbytes = 8 * self.n * self.often + 12 * int(differing[~often].sum())
        self.held = [self._split(start) for start in starts] if nbytes <= _HELD_BYTES else None

    def __len__(self) -> int:
        return -(-len(self.rows) // self.step)

    def __getitem__(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        from scipy.sparse import csr_array, vstack

        rows = self.rows[at * self.step : (at + 1) * self.step]
        shared = self.always[rows]
        gates = self.gates[rows[~shared]]
        if shared.any():
            # Gates that never close share one row, which is computed once.
            gates = vstack([gates, csr_array(np.ones((1, self.n)))], format="csr")
        block = self._means(gates)
        if shared.any():
            block = block[np.where(shared, len(block) - 1, np.cumsum(~shared) - 1)]
        return rows, block

    def _differences(self, start: int) -> SparseTable:
        return self.drho(start, min(start + _PIECE, self.n))

    def _split(self, start: int) -> _Some:
        from scipy.sparse import csr_array

        table = self._differences(start)
        column = self.place[table.indices]
        here = column < self.often
        row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        dense = np.zeros((table.shape[0], self.often))
        dense[row[here], column[here]] = table.data[here]
        others = (column[~here] - self.often).astype(np.int32)
        bounds = np.searchsorted(row[~here], np.arange(table.shape[0] + 1))
        shape = (table.shape[0], self.d_out - self.often)
        return _Some(dense, csr_array((table.data[~here], others, bounds), shape=shape))

    def _means(self, gates: SparseTable) -> np.ndarray:
        """G^T D / N of these gates [b, n]: float32 [b, d_out]."""
        by_triple = gates.tocsc()
        # Fresh memory costs more than the sums of a few triples, so one array serves all blocks.
        total = self.total[: gates.shape[0]]
        total[:] = 0
        block = np.empty(total.shape, dtype=np.float32)
        columns, rows = range(0, self.often, _COLUMNS), range(0, len(total), _ROWS)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for at, start in enumerate(range(0, self.n, _PIECE)):
                some = self.held[at] if self.held is not None else self._split(start)
                for first in range(0, len(some.often), _TRIPLES):
                    last = min(first + _TRIPLES, len(some.often))
                    weights = list(_with_carry(by_triple[:, start + first : start + last].tocsr()))
                    add = partial(
                        _add_often, total[:, : self.often], weights, some.often[first:last]
                    )
                    deque(pool.map(add, columns), maxlen=0)
                opened = by_triple[:, start : start + _PIECE].tocsr()
                add = partial(_add_seldom, total[:, self.often :], opened, some.seldom)
                deque(pool.map(add, rows), maxlen=0)
            deque(pool.map(partial(self._divide, total, block), rows), maxlen=0)
        return block

    def _divide(self, total: np.ndarray, block: np.ndarray, top: int) -> None:
        """Some rows of the sums, over N, with each column at its own place."""
        for row in range(top, min(top + _ROWS, len(total))):
            mean = (total[row] / self.n).astype(np.float32)
            np.take(mean, self.place, out=block[row], mode="clip")


def _add_often(
    total: np.ndarray, weights: list[tuple[int, SparseTable]], drho: np.ndarray, left: int
) -> None:
    """Add some triples' differences to some columns of the sums."""
    dense = drho[:, left : left + _COLUMNS]
    both = np.empty((_ROWS + len(dense), dense.shape[1]))
    both[_ROWS:] = dense
    for top, weight in weights:
        piece = total[top : top + _ROWS, left : left + _COLUMNS]
        stacked = both[_ROWS - len(piece) :]
        stacked[: len(piece)] = piece
        piece[:] = weight @ stacked


def _with_carry(gates: SparseTable) -> Iterator[tuple[int, SparseTable]]:
    """Some rows of the gates [b, t] at a time, each with its own sum so far in front: [I | G]."""
    from scipy.sparse import eye_array, hstack

    for top in range(0, gates.shape[0], _ROWS):
        some = gates[top : top + _ROWS]
        yield top, hstack([eye_array(some.shape[0], format="csr"), some], format="csr")


def _add_seldom(total: np.ndarray, gates: SparseTable, drho: SparseTable, top: int) -> None:
    """Add some triples' differences to some rows of the sums, entry after entry."""
    for row in range(top, min(top + _ROWS, len(total))):
        triples = gates.indices[gates.indptr[row] : gates.indptr[row + 1]]
        if len(triples):
            some = drho[triples]
            # On a CPU, index_add_ of one dimension adds in the order of its index.
            torch.from_numpy(total[row]).index_add_(
                0, torch.from_numpy(some.indices), torch.from_numpy(some.data)
            )
