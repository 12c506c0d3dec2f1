"""What a causal check found of each latent, and its table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspa_nn.evaluation import Effect, Interval


@dataclass(frozen=True)
class LatentEffect:
    """What ablating one output latent alone did on held-out triples.

    Attributes:
        latent: which.
        column_sum: the sum of its column in the map: below 0 the map mostly ablates it.
        score: mean of the map's scores of it over the triples' prompts.
        planned: prompts whose plan ablates it, or augments it.
        edits: steered tokens on which it was active, as a share.
        margin: change of the preference margin with its two parts, nats per token.
        kl: KL(unsteered || ablated), nats per token.
        axes: change of the answers' style, in standard deviations of the unsteered answers.
    """

    latent: int
    column_sum: float
    score: float
    planned: int
    edits: float
    margin: Effect
    kl: Interval
    axes: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            **{name: getattr(self, name) for name in ("latent", "column_sum", "score", "planned")},
            "edits": self.edits,
            "margin": self.margin.to_dict(),
            "kl": self.kl.to_dict(),
            "axes": {name: one.to_dict() for name, one in self.axes.items()},
        }


@dataclass(frozen=True)
class CausalCheck:
    """The top latents of a map, each ablated alone on held-out triples.

    Example:
        >>> from dspa_nn.audit import causal_check, top_latents
        >>> check = causal_check(dspa, map, triples[:4], latents=3, answers=0)
        >>> [one.latent for one in check.effects] == top_latents(map, 3)
        True
        >>> print(check)
        3 latents, each ablated alone ...

    Attributes:
        effects: of each latent, the one that the map steers most first.
        correlations: what is correlated by rank -> Spearman's coefficient with its interval. For
            the margin the sums and scores are taken times -1, so that a map whose order is causal
            has positive coefficients.
        triples, answers: how many were measured.
    """

    effects: list[LatentEffect]
    correlations: dict[str, Interval]
    triples: int
    answers: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "triples": self.triples,
            "answers": self.answers,
            "correlations": {name: one.to_dict() for name, one in self.correlations.items()},
            "effects": [one.to_dict() for one in self.effects],
        }

    def __str__(self) -> str:
        lines = [
            f"{len(self.effects)} latents, each ablated alone on {self.triples} triples "
            f"({self.answers} answers)"
        ]
        if self.effects:
            lines.append(
                f"{'latent':>8} {'column sum':>11} {'planned':>8} {'tokens':>7}  "
                f"{'margin, nats a token':<24} {'KL':>6}  style moved, in standard deviations"
            )
        lines += [
            f"{one.latent:>8} {one.column_sum:>+11.3f} {one.planned:>8} {one.edits:>7.1%}  "
            f"{one.margin.margin!s:<24} {one.kl.mean:>6.3f}  {moved_axes(one.axes)}"
            for one in self.effects
        ]
        lines += [f"Spearman's rho, {name}: {rho}" for name, rho in self.correlations.items()]
        return "\n".join(lines)


def moved_axes(axes: Mapping[str, Interval]) -> str:
    """The axes whose intervals leave 0 out, furthest first.

    Example:
        >>> moved_axes({"task": Interval(0.2, 0.1, 0.3, 9), "direct": Interval(0.1, -0.1, 0.2, 9)})
        'task +0.20'
    """
    told = sorted(axes.items(), key=lambda item: -abs(item[1].mean))
    clear = [f"{name} {one.mean:+.2f}" for name, one in told if one.above_zero or one.below_zero]
    return ", ".join(clear) or "none detectably"
