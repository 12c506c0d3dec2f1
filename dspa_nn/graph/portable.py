# pyright: basic
"""What a map, a sum of maps and a plan become on the way to NDIF: plain tensors."""

from typing import Any

from torch import Tensor

from dspa_nn.graph.refusals import SteeringRefusal, refuse


class PortableMap:
    """A conditional-difference map as its arrays: see `ConditionalDifferenceMap`.

    Attributes:
        arrays: rows, indptr, columns, values, tau, gate_mean (tensors or None), gate, d_in, d_out.
        prompt_tokens: "content" or "all".
        origin: the model and the SAEs that it was fitted with.
        defaults: tuned settings of a run.
    """

    def __init__(self, arrays: dict, prompt_tokens: str, origin: dict, defaults: dict):
        self.arrays = arrays
        self.prompt_tokens = prompt_tokens
        self.origin = origin
        self.defaults = defaults


class PortableSum:
    """A sum of maps as what stands in for each: see `MapSum`.

    Attributes:
        terms: (coefficient, `PortableMap`) of each, in the order in which they are added.
        prompt_tokens, origin, defaults: as in `PortableMap`, of what all of them share.
    """

    def __init__(self, terms: list, prompt_tokens: str, origin: dict, defaults: dict):
        self.terms = terms
        self.prompt_tokens = prompt_tokens
        self.origin = origin
        self.defaults = defaults


class PortablePlan:
    """What was counted, scored and chosen for one prompt, and with which settings: see `Plan`.

    Attributes:
        ids: int64 [tokens], the prompt's.
        counts: int32 [d_in]. lengths: int64 [], counted tokens.
        weights: float64 [d_in], or [members, d_in] of a sum of maps. scores: float64 [d_out].
        augment, ablate: int64 [k] each, padded with -1.
        options: the settings, and the map's origin.
        parts: float64 [members, planned latents], what each map of a sum adds to the score of each,
            augmented ones first; None for a map alone.
    """

    def __init__(
        self, ids: Tensor, counts: Tensor, lengths: Tensor, weights: Tensor, scores: Tensor,
        augment: Tensor, ablate: Tensor, options: dict, parts: Any = None,
    ):  # fmt: skip
        self.ids = ids
        self.counts = counts
        self.lengths = lengths
        self.weights = weights
        self.scores = scores
        self.augment = augment
        self.ablate = ablate
        self.options = options
        self.parts = parts


def terms_of(map: Any) -> list:
    """(coefficient, `PortableMap`) of each map of a sum; of a map alone, with None."""
    return map.terms if isinstance(map, PortableSum) else [(None, map)]


def origins_of(map: Any) -> list[dict[str, Any]]:
    """Where a map, each map of a sum, or each of a list of `PortablePlan`, comes from."""
    if isinstance(map, list):
        return [origin for plan in map for origin in origins_of_plan(plan)]
    return [term.origin for _, term in terms_of(map)]


def origins_of_plan(plan: Any) -> list[dict[str, Any]]:
    """Where the map of a plan, or each map of its sum, comes from."""
    origin = plan.options["origin"]
    return [term["provenance"] for term in origin.get("sum", ())] or [origin]


def as_portable(value: Any) -> Any:
    """A map as a `PortableMap` or `PortableSum`, or plans (one, or one per row) as a list."""
    batch = value if isinstance(value, (list, tuple)) else [value]
    batch = [item.portable() if hasattr(item, "portable") else item for item in batch]
    if batch and all(isinstance(item, PortablePlan) for item in batch):
        return batch
    if isinstance(value, (list, tuple)) or not isinstance(batch[0], (PortableMap, PortableSum)):
        raise refuse(
            SteeringRefusal,
            f"a {type(value).__name__} came for the map; pass what fit or "
            "ConditionalDifferenceMap.load returned, or what dspa.plan made",
        )
    return batch[0]
