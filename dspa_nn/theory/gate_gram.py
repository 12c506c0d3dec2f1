"""M, the gate Gram matrix, and how badly it is conditioned on the gates of one prompt."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.errors import MapError
from dspa_nn.shapes import SparseTable
from dspa_nn.theory.sample import Sample

# Eigenvalues below this part of the largest count as 0.
_NEGLIGIBLE = 1e-10


def gram(gates: SparseTable) -> SparseTable:
    """M = E[g g^T], sparse [d_in, d_in]: how often two gates are open together.

    >>> from scipy.sparse import csr_array
    >>> gram(csr_array([[1.0, 1.0], [1.0, 0.0]])).toarray()
    array([[1. , 0.5],
           [0.5, 0.5]])

    Raises:
        MapError: gates of no prompt.

    Source: docs/method.md 9.
    """
    _check_rows(gates)
    open_: Any = gates
    return ((open_.T @ open_).tocsr() * (1.0 / gates.shape[0])).tocsr()


def gram_on(gates: SparseTable, active: Int64[np.ndarray, " s"]) -> Float64[np.ndarray, "s s"]:
    """M_S = E[g_S g_S^T] over the fitting prompts, for the gates of a set S, dense.

    >>> from scipy.sparse import csr_array
    >>> gram_on(csr_array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), np.array([0, 1]))
    array([[1. , 0.5],
           [0.5, 0.5]])

    Raises:
        MapError: a gate that there is none of, or gates of no prompt.
    """
    _check_rows(gates)
    d_in = gates.shape[1]
    outside = active[(active < 0) | (active >= d_in)]
    if len(outside):
        raise MapError(
            f"gate {outside[0]} is in the set, and there are gates 0 to {d_in - 1}; give numbers "
            "of input latents."
        )
    some = gates[:, active].toarray()
    return some.T @ some / gates.shape[0]


def _check_rows(gates: SparseTable) -> None:
    """Refuse gates of no prompt, whose mean is none."""
    if not gates.shape[0]:
        raise MapError(
            f"gates of shape {gates.shape} came, which are of no prompt; give those of one fitting "
            "prompt at least, one to a row."
        )


@dataclass(frozen=True)
class Conditioning:
    """What can be solved for on a set of gates.

    Attributes:
        size: gates in the set. rank: eigenvalues that are not 0.
        largest, smallest: eigenvalues, the smallest of those that are not 0.
    """

    size: int
    rank: int
    largest: float
    smallest: float

    @property
    def number(self) -> float:
        """Condition number: infinite where the matrix is singular."""
        return self.largest / self.smallest if 0 < self.size == self.rank else float("inf")

    @property
    def singular(self) -> bool:
        """Whether some gates of the set are combinations of others, as far as the sample shows."""
        return self.rank < self.size


def conditioning(matrix: Float64[np.ndarray, "s s"]) -> Conditioning:
    """Rank and extreme eigenvalues of M_S.

    >>> conditioning(np.array([[0.5, 0.5], [0.5, 0.5]])).singular
    True
    >>> conditioning(np.diag([0.5, 0.25])).number
    2.0

    Raises:
        MapError: a matrix that is not square, or not finite.
    """
    if matrix.ndim != 2 or len(matrix) != matrix.shape[1] or not np.isfinite(matrix).all():
        raise MapError(
            f"a matrix of shape {matrix.shape} came, where M_S of one set of gates was expected, "
            "square and finite; gram_on(gates, active) makes one."
        )
    values = np.linalg.eigvalsh(matrix) if len(matrix) else np.zeros(0)
    largest = float(values.max(initial=0.0))
    real = values[values > _NEGLIGIBLE * largest] if largest > 0 else values[:0]
    return Conditioning(len(values), len(real), largest, float(real.min(initial=np.inf)))


def prompt_conditioning(sample: Sample, most: int = 100) -> list[Conditioning]:
    """M_S of the gates that open for each of the first `most` fitting prompts.

    >>> from dspa_nn.theory import sample_of
    >>> found = prompt_conditioning(sample_of(counts, percentile=50), most=3)
    >>> len(found), all(one.rank <= one.size for one in found)
    (3, True)

    S can be solved for without a ridge only where M_S is not singular: never where more gates are
    open than there are triples.
    """
    return [
        conditioning(gram_on(sample.gates, np.sort(sample.gates[[row]].indices).astype(np.int64)))
        for row in range(min(most, sample.n))
    ]
