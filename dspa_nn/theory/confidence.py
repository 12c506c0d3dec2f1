"""Which entries of a map can be told from 0: by the bound, or by t at a false discovery rate."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.imports import late
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.theory.bounds import DELTA, concentration_radius
from dspa_nn.theory.sample import Sample

Confidence: TypeAlias = Literal["bound", "discoveries"]
# A mean of fewer triples has no standard error worth the name; that of one has none at all.
FEWEST_OPEN, LEAST_OPEN = 5, 2


@dataclass(frozen=True)
class Studentised:
    """Every entry that was tested: its row and column, conditional mean, t and two-sided p.

    Attributes:
        row, column: int64 [tested]. mean: (N / N_i) A_ij. t: mean over its standard error.
        p: of Student's t with N_i - 1 degrees of freedom.
        opened: N_i [d_in]. n: N, the triples. d_out: output latents.
    """

    row: Int64[np.ndarray, " tested"]
    column: Int64[np.ndarray, " tested"]
    mean: Float64[np.ndarray, " tested"]
    t: Float64[np.ndarray, " tested"]
    p: Float64[np.ndarray, " tested"]
    opened: Int64[np.ndarray, " d_in"]
    n: int
    d_out: int

    def discoveries(self, rate: float = DELTA) -> np.ndarray:
        """Which of them stay at a false discovery rate: bool [tested] (Benjamini-Hochberg).

        >>> from dspa_nn.theory import sample_of
        >>> found = studentised(sample_of(counts, percentile=50))
        >>> found.discoveries(0.05).shape == found.p.shape
        True

        Source: `scipy.stats.false_discovery_control`.
        """
        if not 0 < rate < 1:
            raise MapError(f"the false discovery rate is {rate}; expected one between 0 and 1.")
        if not len(self.p):
            return np.zeros(0, dtype=bool)
        stats: Any = late("scipy.stats")
        return stats.false_discovery_control(self.p) <= rate


def studentised(sample: Sample, fewest: int = FEWEST_OPEN) -> Studentised:
    """The t of every entry of the rows whose gate opened for at least `fewest` triples.

    >>> from dspa_nn.theory import sample_of
    >>> found = studentised(sample_of(counts, percentile=50))
    >>> bool((found.opened[found.row] >= 5).all())
    True

    Tested are entries in which some triple of the row differs: of the others nothing is known. An
    entry in which all triples differ alike has no standard error, and p = 1.

    Raises:
        MapError: `fewest` is no whole number of at least 2.
    """
    check_positive_int("fewest", fewest, MapError)
    if fewest < LEAST_OPEN:
        raise MapError(
            f"fewest is {fewest}; expected at least {LEAST_OPEN}, since the mean of one triple has "
            "no standard error."
        )
    opened = sample.opened
    rows = np.flatnonzero(opened >= fewest)
    gates: Any = sample.gates[:, rows].T.tocsr()
    drho: Any = sample.drho
    total, squares = gates @ drho, (gates @ drho.multiply(drho).tocsr()).tocoo()
    row, column = (np.asarray(squares.coords[axis], dtype=np.int64) for axis in (0, 1))
    n = opened[rows][row].astype(np.float64)
    # Where differences cancel, a total of 0 is not stored, so totals are looked up by place.
    sums = np.asarray(total.toarray()[row, column], dtype=np.float64)
    mean = sums / n
    variance = np.maximum(squares.data - sums * mean, 0.0) / (n - 1)
    error = np.sqrt(variance / n)
    told = error > 1e-12
    t = np.divide(mean, error, out=np.zeros_like(mean), where=told)
    special: Any = late("scipy.special")
    p = np.where(told, 2 * special.stdtr(n - 1, -np.abs(t)), 1.0)
    shape = sample.n, sample.drho.shape[1]
    return Studentised(rows[row].astype(np.int64), column, mean, t, p, opened, *shape)


def confident_map(
    tested: Studentised,
    like: ConditionalDifferenceMap,
    rule: Confidence = "discoveries",
    level: float = DELTA,
) -> ConditionalDifferenceMap:
    """A map of the entries that can be told from 0.

    >>> from dspa_nn.theory import sample_of
    >>> whole = counts.fit(percentile=50, sparsify="none")
    >>> kept = confident_map(studentised(sample_of(counts, percentile=50)), whole, "bound")
    >>> len(kept.values), len(whole.values) > 0
    (0, True)

    Args:
        tested: the entries of the fitting triples.
        like: the map of the same triples, whose thresholds, settings and provenance are kept.
        rule: "bound": the entry's conditional mean clears its row's concentration bound, which at a
            few hundred triples hardly any does; "discoveries": its t passes Benjamini-Hochberg.
        level: delta of the bound, or the false discovery rate.

    Raises:
        MapError: an unknown rule, a level out of range, or a map of other SAEs.

    To compare with thresholding at equal size: `counts.fit(sparsify="none", max_entries=n)`.
    """
    check_choice("rule", rule, ("bound", "discoveries"), MapError)
    shape = (len(tested.opened), tested.d_out)
    if tuple(like.shape) != shape:
        raise MapError(
            f"the map is {like.shape[0]} x {like.shape[1]} and the counts {shape[0]} x {shape[1]}; "
            "use the map of these counts."
        )
    if rule == "bound":
        radius = concentration_radius(tested.opened, shape[1], level)
        stays = np.flatnonzero(np.abs(tested.mean) > radius[tested.row])
    else:
        stays = np.flatnonzero(tested.discoveries(level))
    stays = stays[np.lexsort((tested.column[stays], tested.row[stays]))]
    row, column = tested.row[stays], tested.column[stays]
    value = (tested.mean[stays] * tested.opened[row] / tested.n).astype(np.float32)
    lengths = np.bincount(row, minlength=shape[0])
    rows = np.flatnonzero(lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths[rows])])
    noted = {"rule": rule, "level": level}
    return like.with_entries(rows, indptr, column, value, confidence=noted)
