"""Bring a control to the strength of what it is compared with: first k_diff, then alpha."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from dspa_nn.evaluation.latents import Codes
from dspa_nn.steering import DSPAMethod, ScaledMethod, SteeringOptions

TOLERANCE = 0.1
_LARGEST_ALPHA = 64.0


@dataclass(frozen=True)
class Match:
    """Edits per steered token and share of the residual stream, wanted and reached, and settings.

    The share is the norm of the stream's change over its norm, the mean over steered tokens.
    """

    k_diff: int
    alpha: float
    edits: float
    share: float
    wanted_edits: float
    wanted_share: float

    @property
    def within(self) -> bool:
        """Whether both figures came within 10 % of what was wanted."""
        return all(
            abs(reached - wanted) <= TOLERANCE * wanted
            for reached, wanted in (
                (self.edits, self.wanted_edits),
                (self.share, self.wanted_share),
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self) | {"within_10_percent": self.within}


def calibrate(codes: Codes, control: DSPAMethod, target: DSPAMethod) -> tuple[DSPAMethod, Match]:
    """Choose k_diff, then alpha, so that a control edits as often and as far as the target.

    Example:
        >>> tuned = DSPAMethod("tuned", dspa, map)
        >>> control = DSPAMethod("turned round", dspa, swapped(map))
        >>> control, match = calibrate(encode(dspa, triples[:4]), control, tuned)
        >>> control.options["k_diff"] == match.k_diff
        True

    Where a figure cannot be reached (an ablation removes at most the latent's value) the nearest is
    taken; `match` holds both. Choose on development triples, never on those that are reported.
    """
    start = codes.settings(target)
    wanted_edits, wanted_share = codes.strength(*codes.planned(target), alpha=start["alpha"])
    k_diff = nearest_k(
        lambda k: codes.edits(*codes.planned(control, k_diff=k), alpha=start["alpha"]),
        wanted_edits,
        most=max(8 * start["k_diff"], 32),
    )
    plan = codes.planned(control, k_diff=k_diff)
    alpha = nearest_alpha(lambda a: codes.strength(*plan, alpha=a)[1], wanted_share)
    edits, share = codes.strength(*plan, alpha=alpha)
    options: SteeringOptions = {**control.options, "k_diff": k_diff, "alpha": alpha}
    return replace(control, options=options), Match(
        k_diff, alpha, edits, share, wanted_edits, wanted_share
    )


def calibrate_norm(
    codes: Codes, control: ScaledMethod, target: DSPAMethod
) -> tuple[ScaledMethod, float]:
    """Choose the norm at which a dense control moves the residual stream as far as the target does.

    Example:
        >>> control, share = calibrate_norm(encode(dspa, triples[:4]), vector_method, tuned)
        >>> share > 0
        True

    The share is that of `calibrate`, over the tokens that the control steers where its condition
    holds for every prompt. Choose on development triples, never on those that are reported.

    Returns:
        The control at that norm, and the share of the stream's norm that is wanted and reached.
    """
    alpha = codes.settings(target)["alpha"]
    _, wanted = codes.strength(*codes.planned(target), alpha=alpha)
    return control.at_norm(wanted / codes.share_of(1.0)), wanted


def nearest_k(edits: Callable[[int], float], wanted: float, most: int) -> int:
    """The k from 1 to `most` whose edits per token come nearest to what is wanted, the lowest such.

    Example:
        >>> nearest_k(lambda k: 0.5 * k, 2.1, 16)
        4

    Edits grow with k, so the k at which they pass what is wanted is searched for by halving.
    """

    def reaching(least: float | int) -> int:
        low, high = 1, most
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if edits(middle) >= least else (middle + 1, high)
        return low

    above = reaching(wanted)
    below = max(1, above - 1)
    nearest = min(edits(below), edits(above), key=lambda reached: abs(reached - wanted))
    return reaching(nearest)


def nearest_alpha(share: Callable[[float], float], wanted: float) -> float:
    """The lowest alpha whose share is what is wanted, or as near as it gets; it never falls.

    Example:
        >>> round(nearest_alpha(lambda alpha: 3 * alpha, 6.0), 3)
        2.0
    """
    high = 1.0
    while share(high) < wanted and high < _LARGEST_ALPHA:
        high *= 2
    aim = min(wanted, share(high)) * (1 - 1e-4)
    low = 0.0
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) >= aim else (middle, high)
    return high
