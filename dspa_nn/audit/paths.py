"""Why a latent was planned: which prompt latents voted for it, through which entries of the map."""

from typing import NamedTuple

import torch

from dspa_nn.checks import check_type
from dspa_nn.errors import MapError
from dspa_nn.maps import ConditionalDifferenceMap, MapSum
from dspa_nn.steering import Plan


class Vote(NamedTuple):
    """One prompt latent's part in the score of an output latent.

    Attributes:
        latent: the input latent.
        entry: of the map, between the two; of a sum, the entries times the maps' coefficients.
        adds: to the score: the entry times the weight of the latent's vote.
    """

    latent: int
    entry: float
    adds: float


def votes_for(plan: Plan, map: ConditionalDifferenceMap, latent: int) -> list[Vote]:
    """The prompt latents that voted for or against an output latent, the largest part first.

    Example:
        >>> plan = dspa.plan(map, "Tell me about volcanoes.")
        >>> votes = votes_for(plan, map, plan.latents[0])
        >>> bool(np.isclose(sum(vote.adds for vote in votes), plan.scores[plan.latents[0]]))
        True

    Their parts add up to the latent's score s(x) (docs/method.md 4.2).

    Raises:
        MapError: another map than the plan was made with.
    """
    check_type("plan", plan, Plan, MapError)
    check_type("map", map, ConditionalDifferenceMap, MapError)
    weights = plan.made.weights
    terms = map.terms if isinstance(map, MapSum) else ((1.0, map),)
    rows = weights.reshape(-1, weights.shape[-1])
    if rows.shape != (len(terms), map.shape[0]):
        raise MapError(
            f"the plan holds the votes of {rows.shape[0]} map(s) of {rows.shape[1]} input latents, "
            f"and the map is of {len(terms)} with {map.shape[0]}; give the map that was applied"
        )
    entries = torch.stack([coefficient * member.column(latent) for coefficient, member in terms])
    adds = (entries * rows).sum(0)
    entry = entries.sum(0)
    total, score = float(adds.sum()), float(plan.scores[latent])
    if abs(total - score) > 1e-6 * max(1.0, abs(score)):
        raise MapError(
            f"the map's votes for latent {latent} come to {total:.6g}, and the plan's score is "
            f"{score:.6g}; give the map that was applied"
        )
    voted = torch.nonzero((entries * rows != 0).any(0)).squeeze(-1)
    order = voted[torch.sort(adds[voted].abs(), descending=True, stable=True).indices]
    return [Vote(int(i), float(entry[i]), float(adds[i])) for i in order]
