"""What the paper proves of A: how near its rows are to their means, and what co-activation adds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer

from dspa_nn.errors import MapError
from dspa_nn.shapes import SparseTable
from dspa_nn.theory.sample import Sample

DELTA = 0.05


def concentration_radius(
    opened: Integer[np.ndarray, " d_in"], d_out: int, delta: float = DELTA
) -> Float64[np.ndarray, " d_in"]:
    """sqrt(2 log(2 d_out / delta) / N_i): all entries of row i lie so near, at once.

    >>> concentration_radius(np.array([25, 2500]), d_out=4096).round(2)
    array([0.98, 0.1 ])

    Of the conditional means (N / N_i) A_ij, with probability 1 - delta, whatever the distribution:
    densities lie in [0, 1], so that their differences lie in [-1, 1] (Hoeffding). Infinite where no
    gate opened.

    Raises:
        MapError: a delta that is no probability.
    """
    _check_delta(delta)
    counted = np.asarray(opened, dtype=np.float64)
    square = np.full(counted.shape, np.inf)
    np.divide(2 * np.log(2 * d_out / delta), counted, out=square, where=counted > 0)
    return np.sqrt(square)


def _check_delta(delta: Any) -> None:
    number = isinstance(delta, int | float | np.integer | np.floating)
    if not number or not 0 < delta < 1:
        raise MapError(f"delta is {delta!r}; expected a probability above 0 and below 1.")


def row_means(sample: Sample) -> SparseTable:
    """(N / N_i) A_ij: the mean difference of the triples whose gate i is open, [d_in, d_out].

    >>> from dspa_nn.theory import sample_of
    >>> row_means(sample_of(counts, percentile=50)).shape == (counts.d_in, counts.d_out)
    True
    """
    opened = sample.opened
    scale = sample.n / np.maximum(opened, 1)
    return sample.map.multiply(scale[:, None]).tocsr()


@dataclass(frozen=True)
class RowBounds:
    """The concentration bound of each row, beside what the row holds.

    Attributes:
        opened: N_i. radius: what all entries of the row are within. largest: the largest |entry| of
            the row's conditional means. cleared: entries above the radius, that is, whose sign is
            certain.
    """

    opened: Integer[np.ndarray, " d_in"]
    radius: Float64[np.ndarray, " d_in"]
    largest: Float64[np.ndarray, " d_in"]
    cleared: Integer[np.ndarray, " d_in"]

    @property
    def telling(self) -> float:
        """Share of the rows with an open gate in which the bound tells any sign."""
        used = self.opened > 0
        return float((self.cleared[used] > 0).mean()) if used.any() else 0.0

    def needed(self, d_out: int, delta: float = DELTA) -> Float64[np.ndarray, " d_in"]:
        """N_i at which the bound would tell the sign of a row's largest entry, were that its mean.

        >>> from dspa_nn.theory import sample_of
        >>> found = row_bounds(sample_of(counts, percentile=50))
        >>> bool((found.needed(counts.d_out) > found.opened)[found.cleared == 0].all())
        True

        Raises:
            MapError: a delta that is no probability.
        """
        _check_delta(delta)
        size = np.where(self.largest > 0, self.largest, np.nan)
        need = 2 * np.log(2 * d_out / delta) / size**2
        return np.where(np.isnan(need), np.inf, need)


def row_bounds(sample: Sample, delta: float = DELTA) -> RowBounds:
    """The bound of every row of a sample.

    >>> from dspa_nn.theory import sample_of
    >>> row_bounds(sample_of(counts, percentile=50)).telling
    0.0

    Source: docs/method.md 9.
    """
    means = row_means(sample)
    radius = concentration_radius(sample.opened, means.shape[1], delta)
    row = np.repeat(np.arange(means.shape[0]), np.diff(means.indptr))
    size = np.abs(means.data)
    largest = np.zeros(means.shape[0])
    np.maximum.at(largest, row, size)
    cleared = np.bincount(row[size > radius[row]], minlength=means.shape[0])
    return RowBounds(sample.opened, radius, largest, cleared)


@dataclass(frozen=True)
class CoActivation:
    """The weak co-activation bound of each row, and how weak the co-activation is.

    Attributes:
        others: sum over i' != i of P(g_i' = 1 | g_i = 1): how many other gates are open with i.
        bound: c norm(Sigma) sum over i' of that probability times norm(beta_i').
        own: c norm(Sigma beta_i) where Sigma is known, else c norm(Sigma) norm(beta_i), the most it
            can be: a bound above it leaves a row's sign open.
    """

    others: Float64[np.ndarray, " d_in"]
    bound: Float64[np.ndarray, " d_in"]
    own: Float64[np.ndarray, " d_in"]


def co_activation(
    gates: SparseTable,
    templates: Float64[np.ndarray, " d_in"],
    spread: float = 1.0,
    own: Float64[np.ndarray, " d_in"] | None = None,
) -> CoActivation:
    """norm(E[drho | g_i = 1] - c Sigma beta_i) is at most this.

    >>> from scipy.sparse import csr_array
    >>> found = co_activation(csr_array([[1.0, 1.0], [1.0, 0.0]]), np.array([1.0, 3.0]))
    >>> found.others, found.bound
    (array([0.5, 1. ]), array([1.5, 1. ]))

    Args:
        gates: g of the fitting prompts, [n, d_in].
        templates: norm(beta_i) of each gate's template; all 1 gives the bound in units of one.
        spread: c norm(Sigma), in the spectral norm.
        own: c norm(Sigma beta_i), where it is known.

    Raises:
        MapError: norms that are not one for each gate.

    Source: docs/method.md 9.
    """
    for name, norms in (("templates", templates), ("own", own)):
        if norms is not None and norms.shape != (gates.shape[1],):
            raise MapError(
                f"{name} has shape {norms.shape}; expected ({gates.shape[1]},), one norm for each "
                "gate."
            )
    opened = np.bincount(gates.indices, minlength=gates.shape[1]).astype(np.float64)
    n_open = np.maximum(opened, 1)
    # For each prompt what its open gates add up to; for each gate the mean of that, less its own.
    together = gates @ np.stack([templates, np.ones(len(templates))], 1)
    sums = (gates.T @ together) / n_open[:, None]
    mine = np.where(opened > 0, 1.0, 0.0)
    bound = spread * (sums[:, 0] - mine * templates)
    return CoActivation(
        sums[:, 1] - mine, np.maximum(bound, 0.0), spread * templates if own is None else own
    )
