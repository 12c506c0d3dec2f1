"""Means over triples with paired percentile bootstrap intervals."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dspa_nn.errors import EvaluationError
from dspa_nn.imports import untyped

RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval, over `n` triples.

    Example:
        >>> print(Interval(0.0312, 0.011, 0.052, 50))
        +0.031 [+0.011, +0.052]
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    def exp(self) -> "Interval":
        """The interval of the exponential: of a ratio, where this one is of a log ratio."""
        low, high, mean = (float(np.exp(value)) for value in (self.low, self.high, self.mean))
        return Interval(mean, low, high, self.n)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; what is not finite becomes None."""
        return {k: v if np.isfinite(v) else None for k, v in asdict(self).items()}


def bootstrap(
    values: Any, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """The mean of `values`, one per triple, with its percentile bootstrap interval.

    Example:
        >>> bootstrap([1.0, 1.0, 1.0])
        Interval(mean=1.0, low=1.0, high=1.0, n=3)

    Triples are drawn with replacement. A *paired* difference of two conditions is the bootstrap of
    the differences, triple by triple. Values that are NaN (nothing was measured) are left out; of
    no values at all, everything is NaN. One value alone has no interval but itself.

    Source: `scipy.stats.bootstrap`.
    """
    measured = np.asarray(values, dtype=np.float64).ravel()
    measured = measured[~np.isnan(measured)]
    if not len(measured):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(measured.mean())
    if len(measured) == 1:
        return Interval(mean, mean, mean, 1)
    found: Any = untyped("scipy.stats").bootstrap(
        (measured,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile",
        vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = found.confidence_interval
    return Interval(mean, float(low), float(high), len(measured))


def proportion(flags: Any, *, level: float = 0.95) -> Interval:
    """The share of triples that are marked, with Wilson's interval; NaN is left out.

    Example:
        >>> print(proportion([True, False, False, False]))
        +0.250 [+0.046, +0.699]

    Where none or all are marked, a bootstrap would say that the share is known exactly.

    Raises:
        EvaluationError: a value that is neither 1 nor 0.
    """
    binomtest: Any = untyped("scipy.stats").binomtest
    marked = np.asarray(flags, dtype=np.float64).ravel()
    marked = marked[~np.isnan(marked)]
    if not len(marked):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    other = marked[(marked != 0) & (marked != 1)]
    if len(other):
        raise EvaluationError(
            f"{other[0]:g} came as the mark of a triple, where 1 or 0 was expected; give the mean "
            "of other values an interval by bootstrap"
        )
    found: Any = binomtest(int(marked.sum()), len(marked))
    low, high = found.proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(marked.mean()), float(low), float(high), len(marked))


def rank_correlation(
    x: Any, y: Any, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """Spearman's rank correlation of pairs, with its percentile bootstrap interval.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 90.0]).mean
        1.0

    Pairs are drawn anew; of two tables [rows, n], whole columns are, and all their pairs are ranked
    together. Of fewer than three columns, or where one side does not vary, everything is NaN.

    Source: `scipy.stats.spearmanr`, `scipy.stats.bootstrap`.
    """
    stats: Any = untyped("scipy.stats")
    first, second = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (x, y))
    n = first.shape[1]
    if n < 3 or not (np.ptp(first) and np.ptp(second)):
        return Interval(float("nan"), float("nan"), float("nan"), n)

    def of_ranks(drawn: Any, axis: int = -1) -> Any:
        """Correlation of ranks; 0 where a resample holds one value alone."""
        sides: list[Any] = []
        for table in (first, second):
            picked = np.moveaxis(table[:, drawn], 0, -2)
            ranks = stats.rankdata(picked.reshape(*picked.shape[:-2], -1), axis=-1)
            sides.append(ranks - ranks.mean(axis=-1, keepdims=True))
        norm = np.sqrt((sides[0] ** 2).sum(-1) * (sides[1] ** 2).sum(-1))
        return (sides[0] * sides[1]).sum(-1) / np.where(norm > 0, norm, 1.0)

    found: Any = stats.bootstrap(
        (np.arange(n),), of_ranks, n_resamples=resamples, confidence_level=level, batch=200,
        method="percentile", vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = found.confidence_interval
    rho = float(stats.spearmanr(first.ravel(), second.ravel()).statistic)
    return Interval(rho, float(low), float(high), n)
