"""A change of the preference margin with its two parts, and which of them moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation.statistics import Interval, bootstrap


@dataclass(frozen=True)
class Effect:
    """The change of a margin and of its parts, nats per token, with paired bootstrap intervals.

    Example:
        >>> found = effect(np.array([0.0, 0.0]), np.array([-0.25, -0.25]))
        >>> print(found)
        +0.250 [+0.250, +0.250]; chosen +0.000 [+0.000, +0.000], rejected -0.250 [-0.250, -0.250]
        >>> print(found.moved())
        the margin rose because the rejected text became less likely; the chosen one did not change

    A margin rises where the chosen response becomes more likely and where the rejected one becomes
    less likely. These are different things to have done to a model, so both are always told.

    Attributes:
        margin: `chosen` less `rejected`, in the mean. Its interval is of the differences, triple by
            triple.
        chosen, rejected: change of log p per token of the chosen and of the rejected responses.
    """

    margin: Interval
    chosen: Interval
    rejected: Interval

    def __str__(self) -> str:
        return f"{self.margin}; chosen {self.chosen}, rejected {self.rejected}"

    def moved(self) -> str:
        """Which part moved the margin, as a clause; what an interval does not tell from 0 is still.

        Example:
            >>> print(effect([0.1, 0.1], [-0.3, -0.3]).moved())
            the margin rose because the rejected text became less likely (75 % of it) and the chosen
            one more
        """
        rises, sinks = self.margin.above_zero, self.margin.below_zero
        up, down = ("more", "less") if not sinks else ("less", "more")
        # How each part moved, seen from the margin: 1 along with it, -1 against it, 0 not at all.
        way = -1 if sinks else 1
        chosen, rejected = way * _sign(self.chosen), -way * _sign(self.rejected)
        if not (rises or sinks):
            return f"the margin did not change ({_both(self.chosen, self.rejected)})"
        start = "the margin rose" if rises else "the margin fell"
        if chosen > 0 and rejected > 0:
            parts = [f"the chosen text became {up} likely", f"the rejected one {down}"]
            share = abs(self.chosen.mean / self.margin.mean)
            if share < 0.5:
                parts = [f"the rejected text became {down} likely", f"the chosen one {up}"]
            largest = f"{max(share, 1 - share):.0%}".replace("%", " %")
            return f"{start} because {parts[0]} ({largest} of it) and {parts[1]}"
        if chosen > 0:
            rest = f"became {up} likely too, by less" if rejected else "did not change"
            return f"{start} because the chosen text became {up} likely; the rejected one {rest}"
        if rejected > 0:
            rest = f"became {down} likely too, by less" if chosen else "did not change"
            return f"{start} because the rejected text became {down} likely; the chosen one {rest}"
        return f"{start}, though neither text's part can be told from none"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        parts = {"margin": self.margin, "chosen": self.chosen, "rejected": self.rejected}
        return {name: part.to_dict() for name, part in parts.items()}


def effect(
    chosen: Float64[np.ndarray, " n"] | Sequence[float],
    rejected: Float64[np.ndarray, " n"] | Sequence[float],
    *,
    seed: int = 0,
) -> Effect:
    """The effect on a margin, from the changes of log p of both responses, one value per triple.

    Example:
        >>> effect(np.array([0.1, 0.3]), np.array([0.0, 0.0])).chosen.mean
        0.2

    Every interval draws the same triples, so the three of them are paired. The difference of two
    methods is the effect of the differences of their changes.

    Raises:
        EvaluationError: another number of chosen changes than of rejected ones.
    """
    up, down = (np.asarray(values, dtype=np.float64) for values in (chosen, rejected))
    if len(up) != len(down):
        raise EvaluationError(
            f"{len(up)} changes of chosen and {len(down)} of rejected responses came; give one of "
            "each per triple"
        )
    return Effect(*(bootstrap(values, seed=seed) for values in (up - down, up, down)))


def _sign(part: Interval) -> int:
    return int(part.above_zero) - int(part.below_zero)


def _both(chosen: Interval, rejected: Interval) -> str:
    words = {1: "became more likely", -1: "became less likely", 0: "did not change"}
    one, other = words[_sign(chosen)], words[_sign(rejected)]
    if one == other:
        return f"both texts {one}" if _sign(chosen) else "neither text did"
    return f"the chosen text {one}, the rejected one {other}"
