# pyright: basic
"""Votes and scores of a map, or of each map of a sum: docs/method.md 4.1, 4.2 and 4.5."""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.rules import ALWAYS, GATES, SCORE, scores_of, weights_of
from dspa_nn.graph.settings import ALWAYS as ALWAYS_OPEN


class Member:
    """A map, alone or in a sum, with the prompt rule that it votes by.

    Attributes:
        arrays: as in a `PortableMap`.
        prompt_rule, k_prompt: the settings in force for this map.
        coefficient: what its scores are multiplied by in a sum; None for a map alone.
        gate, score: the rules that weigh the prompt's latents and make scores of the weights. The
            gate is that of `prompt_rule` where none was given; a map that votes for every prompt
            alike has its own.
    """

    def __init__(
        self, arrays: dict, prompt_rule: str, k_prompt: int, coefficient: Any = None,
        gate: Any = None, score: Any = None,
    ):  # fmt: skip
        self.arrays = arrays
        self.prompt_rule = prompt_rule
        self.k_prompt = k_prompt
        self.coefficient = coefficient
        self.gate = ALWAYS if arrays["gate"] == ALWAYS_OPEN else gate or GATES[prompt_rule]
        self.score = SCORE if score is None else score

    def vote(self, counts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Weights float64 [rows, d_in] and scores float64 [rows, d_out], before the coefficient.

        counts: int32 [rows, d_in], prompt tokens on which each latent is active; lengths: int64
        [rows], counted tokens.
        """
        weights = weights_of(self.gate, self.arrays, counts, lengths, self.k_prompt)
        return weights, scores_of(self.score, self.arrays, weights, counts, lengths)


def vote(members: list, counts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Weights, scores, and what each map adds to the scores (None where there is one map alone).

    Weights are float64 [rows, d_in] of a map alone, [rows, members, d_in] of a sum; the last value
    holds float64 [rows, d_out] for each map. Parts are added in float64, in the order of the sum.
    """
    voted = [member.vote(counts, lengths) for member in members]
    if members[0].coefficient is None:
        return voted[0][0], voted[0][1], None
    parts = [member.coefficient * score for member, (_, score) in zip(members, voted, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return torch.stack([weights for weights, _ in voted], 1), total, parts


def parts_of_planned(parts: Any, augment: Tensor, ablate: Tensor) -> Any:
    """What each map of a sum adds to the planned scores: for each row, float64 [members, k].

    parts: as `vote` returns them; None stays None. The latents are those that are planned, raised
    ones first.
    """
    if parts is None:
        return None
    both = torch.cat([augment, ablate], -1).to(parts[0].device)
    return [
        torch.stack([part[row][latents[latents >= 0]] for part in parts])
        for row, latents in enumerate(both)
    ]
