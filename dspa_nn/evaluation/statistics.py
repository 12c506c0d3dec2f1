"""Means over triples with paired percentile bootstrap intervals."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

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
    """
    binomtest: Any = untyped("scipy.stats").binomtest
    marked = np.asarray(flags, dtype=np.float64).ravel()
    marked = marked[~np.isnan(marked)]
    if not len(marked):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    found: Any = binomtest(int(marked.sum()), len(marked))
    low, high = found.proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(marked.mean()), float(low), float(high), len(marked))
