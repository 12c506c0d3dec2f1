"""The conditional-difference map before it is sparsified: its rows, summed one block at a time."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from dspa_nn.imports import late
from dspa_nn.shapes import SparseTable

# Dense entries of a block of rows: half a GiB in float64. The differences of all triples are read
# once for each block.
_BLOCK_ENTRIES = 1 << 26
# One product adds the differences of so many triples to so many rows and columns of a block: as
# much as stays in the cache of one core.
_TRIPLES, _ROWS, _COLUMNS = 512, 256, 256
# Triples whose differences are prepared together.
_PIECE = 2048
# Sparse look-ups cost ten times a dense add, so columns where over one triple in ten differs are
# kept dense.
_DENSE_ABOVE_ONE_IN = 10
# Prepared differences are kept for all blocks up to so many bytes, else prepared for each block.
_KEPT_BYTES = 1 << 31

# torch declares no types here.
_from_numpy: Callable[[NDArray[Any]], Tensor] = cast(Any, torch).from_numpy

# The differences of densities (drho) of the triples from start to stop: [stop - start, d_out].
Differences = Callable[[int, int], SparseTable]


class PreparedDifferences(NamedTuple):
    """The differences of a few triples, split into columns that are kept dense and the others."""

    dense: Float64[np.ndarray, "triples n_dense"]
    sparse: SparseTable


class DifferenceSums:
    """A = G^T D / N in blocks of rows, each computed when it is asked for; A itself never exists.

    >>> from scipy.sparse import csr_array
    >>> g, d = csr_array([[1.0, 0.0], [1.0, 1.0]]), csr_array([[0.5], [-0.25]])
    >>> sums = DifferenceSums(g, np.zeros(2, dtype=bool), lambda start, stop: d[start:stop], 1)
    >>> list(sums)
    [(array([1, 0]), array([[-0.125],
           [ 0.125]], dtype=float32))]

    `gates` [n, d_in] are 1.0 where a gate is open, or any weights in their place.

    Item `block` is the row numbers [b] and these rows, float32 [b, d_out]. Only rows with a gate
    that opened come, those of fewest open gates first. `drho(start, stop)` gives the differences of
    these triples as sparse rows [stop - start, d_out]; it is called again for each block where
    they are too many to be kept.

    Each entry is summed in float64 over the triples in their order (docs/method.md 3.3): a matrix
    product that is free to add in another order would not give the same doubles. Columns in which
    many triples differ are dense, and the sum so far goes into the next product as one more row of
    weight 1, ahead of the triples. Zeros are added too, but adding a run of memory is ten times
    faster than looking single entries up, as is done in the other columns. Work is shared out over
    torch's threads.
    """

    def __init__(
        self,
        gates: SparseTable,
        always: Bool[np.ndarray, " d_in"],
        drho: Differences,
        d_out: int,
    ) -> None:
        self.n, self.drho, self.d_out = gates.shape[0], drho, d_out
        self.gates: SparseTable = gates.tocsc().T
        self.always = always
        self.weighed = bool((gates.data != 1).any())
        opened = np.where(always, self.n, np.diff(self.gates.indptr))
        order = np.argsort(opened, kind="stable")
        self.rows = order[opened[order] > 0]
        self.step = max(1, min(_BLOCK_ENTRIES // max(1, d_out), len(self.rows)))
        self.total = np.empty((self.step, d_out))

        differing = np.zeros(d_out, dtype=np.int64)
        starts = range(0, self.n, _PIECE)
        for start in starts:
            differing += np.bincount(self._differences(start).indices, minlength=d_out)
        dense = differing * _DENSE_ABOVE_ONE_IN > self.n
        self.n_dense = int(np.count_nonzero(dense))
        # Where each output latent stands in the sums, in which the dense columns come first.
        self.position = np.where(dense, np.cumsum(dense), self.n_dense + np.cumsum(~dense)) - 1
        nbytes = 8 * self.n * self.n_dense + 12 * int(differing[~dense].sum())
        self.prepared = (
            [self._prepare(start) for start in starts] if nbytes <= _KEPT_BYTES else None
        )

    def __len__(self) -> int:
        return -(-len(self.rows) // self.step)

    def __iter__(self) -> Iterator[tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d_out"]]]:
        return (self[block] for block in range(len(self)))

    def __getitem__(
        self, block: int, /
    ) -> tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d_out"]]:
        sparse = late("scipy.sparse")
        csr_array, vstack = sparse.csr_array, sparse.vstack

        first = range(len(self))[block] * self.step  # an IndexError beyond the last block
        rows = self.rows[first : first + self.step]
        shared = self.always[rows]
        gates = self.gates[rows[~shared]]
        if shared.any():
            # Gates that never close share one row, which is computed once.
            gates = vstack([gates, csr_array(np.ones((1, self.n)))], format="csr")
        means = self._means(gates)
        if shared.any():
            means = means[np.where(shared, len(means) - 1, np.cumsum(~shared) - 1)]
        return rows, means

    def _differences(self, start: int) -> SparseTable:
        return self.drho(start, min(start + _PIECE, self.n))

    def _prepare(self, start: int) -> PreparedDifferences:
        csr_array = late("scipy.sparse").csr_array

        table = self._differences(start)
        column = self.position[table.indices]
        is_dense = column < self.n_dense
        row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        dense = np.zeros((table.shape[0], self.n_dense))
        dense[row[is_dense], column[is_dense]] = table.data[is_dense]
        others = (column[~is_dense] - self.n_dense).astype(np.int32)
        bounds = np.searchsorted(row[~is_dense], np.arange(table.shape[0] + 1))
        shape = (table.shape[0], self.d_out - self.n_dense)
        return PreparedDifferences(
            dense, csr_array((table.data[~is_dense], others, bounds), shape=shape)
        )

    def _means(self, gates: SparseTable) -> Float32[np.ndarray, "b d_out"]:
        """G^T D / N of these gates [b, n]."""
        by_triple = gates.tocsc()
        # Fresh memory costs more than the sums of a few triples, so one array serves all blocks.
        total = self.total[: gates.shape[0]]
        total[:] = 0
        means = np.empty(total.shape, dtype=np.float32)
        columns, rows = range(0, self.n_dense, _COLUMNS), range(0, len(total), _ROWS)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for piece, start in enumerate(range(0, self.n, _PIECE)):
                drho = self.prepared[piece] if self.prepared is not None else self._prepare(start)
                for first in range(0, len(drho.dense), _TRIPLES):
                    last = min(first + _TRIPLES, len(drho.dense))
                    weights = list(_with_carry(by_triple[:, start + first : start + last].tocsr()))
                    add = partial(
                        _add_dense, total[:, : self.n_dense], weights, drho.dense[first:last]
                    )
                    deque(pool.map(add, columns), maxlen=0)
                opened = by_triple[:, start : start + _PIECE].tocsr()
                add = partial(
                    _add_sparse, total[:, self.n_dense :], opened, drho.sparse, self.weighed
                )
                deque(pool.map(add, rows), maxlen=0)
            deque(pool.map(partial(self._divide, total, means), rows), maxlen=0)
        return means

    def _divide(
        self,
        total: Float64[np.ndarray, "b d_out"],
        means: Float32[np.ndarray, "b d_out"],
        top: int,
    ) -> None:
        """A few rows of the sums, over N, with the columns in the order of the output latents."""
        for row in range(top, min(top + _ROWS, len(total))):
            mean = (total[row] / self.n).astype(np.float32)
            np.take(mean, self.position, out=means[row], mode="clip")


def _add_dense(
    total: Float64[np.ndarray, "b n_dense"],
    weights: list[tuple[int, SparseTable]],
    drho: Float64[np.ndarray, "triples n_dense"],
    left: int,
) -> None:
    """Add the differences of a few triples to the dense columns from `left` on."""
    dense = drho[:, left : left + _COLUMNS]
    both = np.empty((_ROWS + len(dense), dense.shape[1]))
    both[_ROWS:] = dense
    for top, weight in weights:
        piece = total[top : top + _ROWS, left : left + _COLUMNS]
        stacked = both[_ROWS - len(piece) :]
        stacked[: len(piece)] = piece
        piece[:] = weight @ stacked


def _with_carry(gates: SparseTable) -> Iterator[tuple[int, SparseTable]]:
    """A few rows of the gates [b, t] at a time, each with its sum so far in front: [I | G]."""
    sparse = late("scipy.sparse")
    eye_array, hstack = sparse.eye_array, sparse.hstack

    for top in range(0, gates.shape[0], _ROWS):
        rows = gates[top : top + _ROWS]
        yield top, hstack([eye_array(rows.shape[0], format="csr"), rows], format="csr")


def _add_sparse(
    total: Float64[np.ndarray, "b n_sparse"],
    gates: SparseTable,
    drho: SparseTable,
    weighed: bool,
    top: int,
) -> None:
    """Add the differences of a few triples to a few rows of the other columns, one by one."""
    for row in range(top, min(top + _ROWS, len(total))):
        entries = slice(gates.indptr[row], gates.indptr[row + 1])
        triples = gates.indices[entries]
        if len(triples):
            differing = drho[triples]
            values = differing.data
            if weighed:
                values = values * np.repeat(gates.data[entries], np.diff(differing.indptr))
            # On a CPU, index_add_ of one dimension adds in the order of its index.
            _from_numpy(total[row]).index_add_(
                0, _from_numpy(differing.indices), _from_numpy(values)
            )
