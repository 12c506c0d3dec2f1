"""Preference accuracy: for how many triples is the chosen response the likelier one?"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation.length import alike, at_equal_length
from dspa_nn.evaluation.margin import Margins
from dspa_nn.evaluation.ranking import right
from dspa_nn.evaluation.statistics import Interval, bootstrap, proportion

Per = Literal["token", "response"]


@dataclass(frozen=True)
class Preference:
    """Held-out preference accuracy under one method, with the length of responses taken out.

    Example:
        >>> from dspa_nn.evaluation import margins
        >>> plain, steered = margins(dspa, triples[:6], [DSPAMethod("tuned", dspa, map)])
        >>> print(preference(steered))
        accuracy ... [...]; at equal length ... [...], alike in length ... (n = ...); longer ...

    Attributes:
        values: 1 where the chosen response is the likelier, 0 where the rejected one is, 0.5 for a
            tie; one per triple.
        accuracy: their mean.
        at_equal_length: the same at one length of both responses, by regression on the log ratio of
            their lengths (`dspa_nn.evaluation.at_equal_length`).
        alike: the mean over pairs whose lengths differ by at most a tenth; of no pair, NaN.
        longer: share of triples whose chosen response is the longer one: what length alone gives.
        margin, margin_at_equal_length: mean margin in nats, and the same at equal length.
    """

    values: Float64[np.ndarray, " n"]
    accuracy: Interval
    at_equal_length: Interval
    alike: Interval
    longer: Interval
    margin: Interval
    margin_at_equal_length: Interval

    def __str__(self) -> str:
        return (
            f"accuracy {_plain(self.accuracy)}; at equal length {_plain(self.at_equal_length)}, "
            f"alike in length {_plain(self.alike)} (n = {self.alike.n}); longer wins "
            f"{_plain(self.longer)}"
        )

    def less(self, other: "Preference", *, seed: int = 0) -> Interval:
        """This accuracy less another method's on the same triples, paired.

        Example:
            >>> from dspa_nn.evaluation import margins
            >>> plain, _ = margins(dspa, triples[:4], [DSPAMethod("tuned", dspa, map)])
            >>> preference(plain).less(preference(plain)).mean
            0.0

        Raises:
            DSPAError: another number of triples.
        """
        if len(self.values) != len(other.values):
            raise DSPAError(
                f"accuracies over {len(self.values)} and {len(other.values)} triples came; a "
                "paired difference needs the same triples"
            )
        return bootstrap(self.values - other.values, seed=seed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file, intervals alone."""
        return {k: v.to_dict() for k, v in vars(self).items() if isinstance(v, Interval)}


def preference(measured: Margins, *, per: Per = "token", seed: int = 0) -> Preference:
    """Which responses a method makes likelier, from the margins that were measured under it.

    Example:
        >>> from dspa_nn.evaluation import margins
        >>> plain, steered = margins(dspa, triples[:6], [DSPAMethod("tuned", dspa, map)])
        >>> preference(steered).values.shape
        (6,)

    Args:
        measured: one of what `margins` returned.
        per: "token" compares mean log p per token, as the margin does; "response" sums, as DPO's
            reward does, which favours short responses.
        seed: of the intervals.

    Source: docs/measures.md.
    """
    check_choice("per", per, ("token", "response"), DSPAError)
    sides = measured.chosen, measured.rejected
    lengths = [np.array([float(len(tokens.ids)) for tokens in side.tokens]) for side in sides]
    margin = measured.margin
    if per == "response":
        margin = sides[0].log_prob * lengths[0] - sides[1].log_prob * lengths[1]
    return preference_of(margin, *lengths, seed=seed)


def preference_of(
    margin: Float64[np.ndarray, " n"],
    chosen: Float64[np.ndarray, " n"],
    rejected: Float64[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Preference:
    """The same from margins and lengths of responses, one per triple, however they were got.

    Example:
        >>> found = preference_of(np.array([0.5, -0.1]), np.array([9.0, 8.0]), np.array([9.0, 4.0]))
        >>> found.accuracy.mean, found.alike.mean, found.longer.mean
        (0.5, 1.0, 0.75)
    """
    values = right(margin)
    return Preference(
        values=values,
        accuracy=share_of(values, seed),
        at_equal_length=at_equal_length(values, chosen, rejected, seed=seed),
        alike=share_of(values[alike(chosen, rejected)], seed),
        longer=share_of(right(np.asarray(chosen) - np.asarray(rejected)), seed),
        margin=bootstrap(margin, seed=seed),
        margin_at_equal_length=at_equal_length(margin, chosen, rejected, seed=seed),
    )


def share_of(values: Float64[np.ndarray, " n"], seed: int = 0) -> Interval:
    """A share with Wilson's interval, or the bootstrap's where a tie counts half.

    >>> share_of(np.array([1.0, 1.0])).high, share_of(np.array([1.0, 0.5])).mean
    (1.0, 0.75)
    """
    tied = bool((values == 0.5).any())
    return bootstrap(values, seed=seed) if tied else proportion(values)


def _plain(share: Interval) -> str:
    return f"{share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]"
