"""Whitening: scores with Sigma taken out of them, which the paper proposes and does not test."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from dspa_nn.checks import check_choice
from dspa_nn.errors import CountsError, MapError
from dspa_nn.extensions import declared
from dspa_nn.shapes import SparseTable

# torch declares no types here.
_linalg: Any = torch.linalg

Shrinkage: TypeAlias = Literal["ledoit-wolf", "oas"]
# This part of the mean variance is added, else latents that hardly differ are divided by nearly 0.
FLOOR = 0.1


@declared("score", name="whitened")
@dataclass(frozen=True)
class Whitening:
    """(Sigma^)^-1 as a diagonal less a low rank, so that no [d_out, d_out] array is made.

    >>> whitening = diagonal_whitening(counts.differences())
    >>> whitening(torch.ones(2, counts.d_out, dtype=torch.float64)).shape == (2, counts.d_out)
    True

    It is an extension: `apply(map, score=whitening)` selects by the map's scores, whitened.

    The inverse is `diag(inverse) - basis^T core basis`; `core` is None where it is diagonal.

    Attributes:
        inverse: float64 [d_out]. basis: [r, d_out]. core: [r, r].
        shrinkage: how much of Sigma was replaced by a multiple of the unit matrix, 0 to 1.
    """

    inverse: Float64[Tensor, " d_out"]
    basis: Float64[Tensor, "r d_out"] | None = None
    core: Float64[Tensor, "r r"] | None = None
    shrinkage: float = 0.0

    def __call__(self, scores: Float64[Tensor, "*batch d_out"]) -> Float64[Tensor, "*batch d_out"]:
        """Sigma^-1 s for each row of scores."""
        plain = scores * self.inverse
        if self.basis is None or self.core is None:
            return plain
        # Without einops, which an NDIF server lacks.
        return plain - scores @ self.basis.T @ self.core @ self.basis


def diagonal_whitening(drho: SparseTable, floor: float = FLOOR) -> Whitening:
    """Divide each output latent's score by its variance over responses.

    >>> from scipy.sparse import csr_array
    >>> diagonal_whitening(csr_array([[2.0, 0.0], [0.0, 1.0]]), floor=0.0).inverse
    tensor([1., 4.], dtype=torch.float64)

    The variance is half the mean of drho_j^2, not centred (docs/method.md 9): two responses of one
    prompt, drawn alike, differ by twice the variance of one.

    Args:
        drho: differences of the fitting triples, [n, d_out].
        floor: this part of the mean variance is added to each.

    Raises:
        MapError: a floor below 0.
        CountsError: no triples.
    """
    if not 0 <= floor < float("inf"):
        raise MapError(f"the floor of whitening is {floor}; expected a number of at least 0.")
    variance = np.asarray(drho.multiply(drho).sum(0)).ravel() / (2 * _rows(drho))
    variance = variance + floor * variance.mean()
    inverse = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
    return Whitening(torch.as_tensor(inverse))


def shrunk_whitening(drho: SparseTable, shrinkage: Shrinkage | float = "ledoit-wolf") -> Whitening:
    """Whiten by a full covariance, shrunk towards a multiple of the unit matrix.

    >>> whitening = shrunk_whitening(counts.differences(), 0.5)
    >>> whitening.shrinkage
    0.5

    Sigma is half the covariance of drho about its mean (docs/method.md 9). With the shrinkage d and
    the mean variance m, the inverse of `(1 - d) Sigma + d m I` comes from the [n, n] products of
    the triples alone where they are fewer than the latents (Woodbury), and so does d: it is that of
    scikit-learn's `LedoitWolf` and `OAS`, which would make arrays of [d_out, d_out]; a test holds
    them equal.

    Args:
        drho: differences of the fitting triples, [n, d_out].
        shrinkage: "ledoit-wolf", "oas", or the shrinkage itself, above 0 and at most 1.

    Raises:
        MapError: another estimator, or a number out of range.
        CountsError: fewer than two triples, or triples that do not differ.
    """
    n = _rows(drho)
    if n < 2:
        raise CountsError("a covariance of one triple is 0; count at least two triples.")
    rows = drho.toarray() / np.sqrt(2.0)
    rows -= rows.mean(0)
    # The products of triples or those of latents, whichever are fewer: the same eigenvalues.
    few = n <= rows.shape[1]
    products = (rows @ rows.T if few else rows.T @ rows) / n
    share = _shrinkage(products, rows, shrinkage)
    level = float(np.trace(products)) / rows.shape[1]
    if not level > 0:
        raise CountsError(
            f"the {n} triples do not differ in any output latent, so there is no covariance; "
            "count other triples."
        )
    a, b = share * level, 1 - share
    inverse = torch.full((rows.shape[1],), 1 / a, dtype=torch.float64)
    matrix = torch.as_tensor(products)
    if few:
        # (a I + b X^T X / n)^-1 = I / a - X^T (b / (n a^2)) (I + (b / a) X X^T / n)^-1 X
        inner = torch.eye(n, dtype=torch.float64) + (b / a) * matrix
        core = (b / (n * a**2)) * _linalg.inv(inner)
        return Whitening(inverse, torch.as_tensor(rows), core, share)
    values, vectors = _linalg.eigh(matrix)
    core = torch.diag(1 / a - 1 / (a + b * values.clamp(min=0)))
    return Whitening(inverse, vectors.T.contiguous(), core, share)


def _rows(drho: SparseTable) -> int:
    if not drho.shape[0]:
        raise CountsError("there are no triples to take a covariance of; count some triples.")
    if not np.isfinite(drho.data).all():
        raise CountsError("the differences hold NaN or infinity; expected finite numbers.")
    return drho.shape[0]


def _shrinkage(
    products: Float64[np.ndarray, "r r"],
    rows: Float64[np.ndarray, "n d_out"],
    asked: Shrinkage | float,
) -> float:
    """How much to shrink, as scikit-learn's estimators do, or as asked.

    All that they read of the covariance: its trace, its squared norm, and the fourth powers of the
    rows' norms.
    """
    if not isinstance(asked, str):
        if isinstance(asked, bool) or not (isinstance(asked, Real) and 0 < asked <= 1):
            raise MapError(
                f"shrinkage is {asked!r}; expected a number above 0 and at most 1, 'ledoit-wolf' "
                "or 'oas'."
            )
        return float(asked)
    check_choice("shrinkage", asked, ("ledoit-wolf", "oas"), MapError)
    n, d_out = rows.shape
    level, square = float(np.trace(products)) / d_out, float((products**2).sum())
    if asked == "oas":
        mean = square / d_out**2
        gap = (n + 1) * (mean - level**2 / d_out)
        return _at_least(min((mean + level**2) / gap, 1.0) if gap > 0 else 1.0)
    far = square / d_out - level**2
    noise = (float(((rows**2).sum(1) ** 2).mean()) - square) / n / d_out
    return _at_least(min(noise, far) / far if far > 0 else 0.0)


def _at_least(share: float) -> float:
    """Sigma of fewer triples than latents is singular: it cannot go without any shrinkage."""
    return max(share, 1e-6)
