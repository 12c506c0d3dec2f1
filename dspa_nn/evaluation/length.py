"""Length: of answers, and taken out of what is said of a preference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from dspa_nn.errors import DSPAError
from dspa_nn.evaluation.answers import Answers
from dspa_nn.evaluation.statistics import RESAMPLES, Interval
from dspa_nn.imports import untyped

# Pairs alike in length differ by at most this share of the longer response.
TOLERANCE = 0.1


def answer_lengths(answers: Answers) -> Float64[np.ndarray, " n"]:
    """Tokens of each answer, its end of turn left out.

    Example:
        >>> from dspa_nn.evaluation import answer
        >>> bool((answer_lengths(answer(dspa, [prompt], max_new_tokens=4)) <= 4).all())
        True
    """
    return np.array([float(len(ids)) for ids in answers.ids])


def alike(
    chosen: Sequence[float | int] | np.ndarray,
    rejected: Sequence[float | int] | np.ndarray,
    tolerance: float = TOLERANCE,
) -> Bool[np.ndarray, " n"]:
    """Which pairs of lengths differ by at most `tolerance` of the longer.

    Example:
        >>> alike([10, 10], [9, 5])
        array([ True, False])
    """
    first, second = _lengths(chosen, rejected)
    return np.abs(first - second) <= tolerance * np.maximum(first, second)


def at_equal_length(
    values: Sequence[float | int] | np.ndarray,
    chosen: Sequence[float | int] | np.ndarray,
    rejected: Sequence[float | int] | np.ndarray,
    *,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of `values` that is left where both responses are of one length.

    Example:
        >>> lengths = [20, 40, 80], [40, 40, 40]
        >>> round(at_equal_length([0.1, 0.3, 0.5], *lengths).mean, 3)
        0.3

    The estimator is the intercept of a least-squares line of the values on
    `log(tokens of chosen / tokens of rejected)`, which is 0 at equal length. For values of 0 and 1
    (an accuracy) this is a linear probability model, and the intercept may leave [0, 1]. Where all
    pairs have the same ratio no line can be told from the mean, and the mean is given.

    Args:
        values: one per triple: a margin, its change, or 1 for a pair that is ranked rightly.
        chosen: lengths of the chosen responses in tokens.
        rejected: lengths of the rejected ones.
        seed: of the bootstrap, which draws triples with replacement (`scipy.stats.bootstrap`,
            percentile). level: of the interval.

    Raises:
        DSPAError: lengths of another number of triples, or a length below 1.
    """
    stats: Any = untyped("scipy.stats")

    first, second = _lengths(chosen, rejected)
    kept = np.asarray(values, dtype=np.float64)
    if kept.shape != first.shape:
        raise DSPAError(
            f"{len(kept)} values came with lengths of {len(first)} pairs; give one value per pair"
        )
    ratio = np.log(first / second)
    if len(kept) < 2:
        mean = float(kept.mean()) if len(kept) else float("nan")
        return Interval(mean, mean, mean, len(kept))
    drawn: Any = stats.bootstrap(
        (kept, ratio), intercept, paired=True, vectorized=True, n_resamples=RESAMPLES,
        confidence_level=level, method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = drawn.confidence_interval
    return Interval(float(intercept(kept, ratio)), float(low), float(high), len(kept))


def intercept(
    values: Float64[np.ndarray, "*draws n"], ratio: Float64[np.ndarray, "*draws n"], axis: int = -1
) -> Any:
    """Intercept of the least-squares line of values on ratios, along an axis.

    >>> float(intercept(np.array([1.0, 3.0]), np.array([-1.0, 1.0])))
    2.0
    """
    across = ratio - ratio.mean(axis, keepdims=True)
    spread = (across**2).sum(axis)
    slope = np.divide(
        (across * values).sum(axis), spread, out=np.zeros_like(spread), where=spread > 1e-12
    )
    return values.mean(axis) - slope * ratio.mean(axis)


def _lengths(chosen: Any, rejected: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(side, dtype=np.float64) for side in (chosen, rejected))
    if first.shape != second.shape or first.ndim != 1:
        raise DSPAError(
            f"lengths of {first.shape} chosen and {second.shape} rejected responses came; give "
            "one of each per triple"
        )
    if len(first) and min(first.min(), second.min()) < 1:
        raise DSPAError("a response of no token came, and its length must be at least 1; leave the "
                        "triple out")  # fmt: skip
    return first, second
