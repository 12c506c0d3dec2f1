"""Densities, their thresholds and the gates that they open: arithmetic on arrays alone.

docs/method.md 2, 3 and 11 (paper: arXiv 2603.21461). Tables are scipy's sparse rows, one per
triple. Densities are float64 quotients of integers, so equal ratios are equal doubles.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Integer

from dspa_nn.imports import late
from dspa_nn.maps.options import Gate
from dspa_nn.shapes import SparseTable

# Entries of a table that are sorted or compared at a time, so that no second copy of it is made.
_PIECE = 1 << 22


def densities(counts: SparseTable, lengths: Integer[np.ndarray, " n"]) -> SparseTable:
    """rho: the fraction of a row's tokens on which each latent fired, [n, d] in [0, 1].

    >>> from scipy.sparse import csr_array
    >>> densities(csr_array([[3, 0, 1]]), np.array([4])).toarray()
    array([[0.75, 0.  , 0.25]])

    `counts` [n, d] are integers, `lengths` [n] the tokens counted, each at least 1.
    """
    csr_array = late("scipy.sparse").csr_array

    data = np.repeat(np.asarray(lengths, dtype=np.float64), np.diff(counts.indptr))
    np.divide(counts.data, data, out=data)
    return csr_array((data, counts.indices, counts.indptr), shape=counts.shape)


def differences(
    chosen: SparseTable,
    chosen_lengths: Integer[np.ndarray, " n"],
    rejected: SparseTable,
    rejected_lengths: Integer[np.ndarray, " n"],
) -> SparseTable:
    """drho: density in the chosen response less density in the rejected one, [n, d_out].

    >>> from scipy.sparse import csr_array
    >>> one, two = csr_array([[2, 0]]), csr_array([[1, 1]])
    >>> differences(one, np.array([4]), two, np.array([2])).toarray()
    array([[ 0. , -0.5]])
    """
    table = (densities(chosen, chosen_lengths) - densities(rejected, rejected_lengths)).tocsr()
    table.eliminate_zeros()
    table.sort_indices()
    return table


def thresholds(
    rho: SparseTable, percentile: float | int
) -> tuple[Float64[np.ndarray, " d_in"], Float64[np.ndarray, " d_in"]]:
    """tau, and the order statistic that decides the gates while fitting; both float64 [d_in].

    >>> from scipy.sparse import csr_array
    >>> tau, cut = thresholds(csr_array([[0.0], [0.25], [0.5], [1.0]]), 50)
    >>> tau, cut
    (array([0.375]), array([0.5]))

    With v = p (N - 1) / 100, tau interpolates linearly between the sorted densities at floor(v)
    and ceil(v), zeros included, and `cut` is the one at ceil(v) (docs/method.md 3.3). For a
    density of the sample, rho >= tau and rho >= cut say the same.
    """
    n, width = rho.shape
    by_latent = rho.tocsc()
    stored = np.diff(by_latent.indptr)
    ordered = by_latent.data
    for start, stop in _pieces(by_latent.indptr):
        first, last = by_latent.indptr[[start, stop]]
        latent = np.repeat(np.arange(start, stop), stored[start:stop])
        piece = ordered[first:last]
        ordered[first:last] = piece[np.lexsort((piece, latent))]

    def order_statistic(k: int) -> Float64[np.ndarray, " d_in"]:
        # Sorted, a column is its zeros and then its stored densities.
        position = k - (n - stored)
        inside = position >= 0
        values = np.zeros(width)
        values[inside] = ordered[by_latent.indptr[:-1][inside] + position[inside]]
        return values

    virtual = percentile * (n - 1) / 100
    low, cut = order_statistic(math.floor(virtual)), order_statistic(math.ceil(virtual))
    share, gap = virtual - math.floor(virtual), cut - low
    # From the nearer end, as numpy does it, to the last bit: densities of new prompts tie with tau.
    return (cut - gap * (1 - share) if share >= 0.5 else low + gap * share), cut


def open_gates(
    rho: SparseTable, cut: Float64[np.ndarray, " d_in"], gate: Gate
) -> tuple[SparseTable, Bool[np.ndarray, " d_in"]]:
    """g: the gates that a firing latent opens, [n, d_in], and those that are always open.

    >>> from scipy.sparse import csr_array
    >>> gates, always = open_gates(csr_array([[0.2, 0.5], [0.4, 0.0]]), np.array([0.4, 0.0]),
    ...                            "literal")
    >>> gates.toarray(), always
    (array([[0., 1.],
           [1., 0.]]), array([False,  True]))

    A gate is open where rho >= cut, and with `gate="active"` only where rho > 0 as well. Under
    `gate="literal"` a latent whose cut is 0 is open for every prompt: `always` [d_in] marks it,
    so that no dense table is needed (docs/method.md 11).
    """
    csr_array = late("scipy.sparse").csr_array

    columns, opened = [np.empty(0, rho.indices.dtype)], [np.zeros(1, np.int64)]
    for start, stop in _pieces(rho.indptr):
        first, last = rho.indptr[[start, stop]]
        latent = rho.indices[first:last]
        keep = rho.data[first:last] >= cut[latent]
        columns.append(latent[keep])
        before = np.concatenate([[0], np.cumsum(keep)])
        opened.append(np.diff(before[rho.indptr[start : stop + 1] - first]))
    latents = np.concatenate(columns)
    # An int64 here would make the latents int64 as well.
    bounds = np.cumsum(np.concatenate(opened)).astype(rho.indptr.dtype)
    gates = csr_array((np.ones(len(latents)), latents, bounds), rho.shape)
    always = cut <= 0 if gate == "literal" else np.zeros(len(cut), dtype=bool)
    return gates, always


def _pieces(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows (or columns) from start to stop of a sparse table, a few million entries at a time."""
    start = 0
    while start < len(indptr) - 1:
        stop = int(np.searchsorted(indptr, int(indptr[start]) + _PIECE, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


def gate_mean(
    gates: SparseTable, always: Bool[np.ndarray, " d_in"]
) -> Float64[np.ndarray, " d_in"]:
    """The mean of g over the fitting prompts, N_i / N, float64 [d_in].

    >>> from scipy.sparse import csr_array
    >>> gate_mean(csr_array([[1.0, 0.0], [1.0, 1.0]]), np.array([False, False]))
    array([1. , 0.5])
    """
    opened = np.bincount(gates.indices, minlength=gates.shape[1])
    return np.where(always, 1.0, opened / gates.shape[0])
