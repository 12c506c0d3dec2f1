"""The causal check as a table that a person reads."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from dspa_nn.evaluation import Effect, Interval


@runtime_checkable
class Ablated(Protocol):
    """What ablating one latent did, as far as it is printed."""

    @property
    def latent(self) -> int:
        """Which."""
        ...

    @property
    def column_sum(self) -> float:
        """Of its column in the map."""
        ...

    @property
    def planned(self) -> int:
        """Prompts whose plan edits it."""
        ...

    @property
    def edits(self) -> float:
        """Share of the steered tokens."""
        ...

    @property
    def margin(self) -> Effect:
        """Change of the margin."""
        ...

    @property
    def kl(self) -> Interval:
        """From the unsteered model."""
        ...

    @property
    def axes(self) -> Mapping[str, Interval]:
        """Change of style."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A causal check, as far as it is printed."""

    @property
    def effects(self) -> Sequence[Ablated]:
        """Of each latent."""
        ...

    @property
    def correlations(self) -> Mapping[str, Interval]:
        """By rank."""
        ...

    @property
    def triples(self) -> int:
        """How many were measured."""
        ...

    @property
    def answers(self) -> int:
        """How many were generated."""
        ...


def told(check: Checked) -> str:
    """The latents in the map's order, then the rank correlations.

    Example:
        >>> from dspa_nn.audit import CausalCheck
        >>> told(CausalCheck([], {}, 3, 0))
        '0 latents, each ablated alone on 3 triples (0 answers)'
    """
    lines = [
        f"{len(check.effects)} latents, each ablated alone on {check.triples} triples "
        f"({check.answers} answers)"
    ]
    if check.effects:
        lines.append(
            f"{'latent':>8} {'column sum':>11} {'planned':>8} {'tokens':>7}  "
            f"{'margin, nats a token':<24} {'KL':>6}  style moved, in standard deviations"
        )
    lines += [
        f"{one.latent:>8} {one.column_sum:>+11.3f} {one.planned:>8} {one.edits:>7.1%}  "
        f"{one.margin.margin!s:<24} {one.kl.mean:>6.3f}  {moved_axes(one.axes)}"
        for one in check.effects
    ]
    lines += [f"Spearman's rho, {name}: {rho}" for name, rho in check.correlations.items()]
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
