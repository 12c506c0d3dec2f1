"""Which settings are as good as the best, within noise; and the front of effect against damage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dspa_nn.evaluation import Interval, bootstrap
from dspa_nn.tuning.space import Trial


@dataclass(frozen=True)
class Region:
    """Allowed settings whose margin cannot be told from the best one's.

    Attributes:
        best: the allowed setting of the largest mean margin.
        gentlest: of the region, the setting that moves the model least.
        members: of the region, by margin, the best first; with the best one's margin less theirs,
            paired triple by triple.
    """

    best: Trial
    gentlest: Trial
    members: list[tuple[Trial, Interval]]

    def values(self) -> dict[str, list[Any]]:
        """Which values of every setting are in the region; of alpha, its least and greatest."""
        found: dict[str, list[Any]] = {
            "layers": sorted({trial.choice.vote.layers for trial, _ in self.members})
        }
        for name in self.best.choice.settings:
            values = {trial.choice.settings[name] for trial, _ in self.members}
            found[name] = sorted(values) if name != "alpha" else [min(values), max(values)]
        return found


def region_of(trials: Sequence[Trial], kl: float, seed: int = 0) -> Region | None:
    """The region of the best of the trials within a limit on KL; None where none is within it.

    Example:
        >>> from dspa_nn.tuning.space import Choice, Vote
        >>> vote = Vote((9, 24), 50, "content", "centred", 32)
        >>> strong, weak = (Choice(vote, 16, "both", alpha) for alpha in (0.4, 0.2))
        >>> one = Trial(strong, [0.2, 0.3], [0.0, 0.0], [0.1, 0.1], 1.0, 0.02)
        >>> other = Trial(weak, [0.3, 0.1], [0.0, 0.0], [0.02, 0.02], 1.0, 0.01)
        >>> region = region_of([one, other], kl=0.15)
        >>> region.best is one, region.gentlest is other, len(region.members)
        (True, True, 2)

    A setting is in it where the interval of its paired difference from the best holds 0. The best
    of many is too good by the choice, on these triples: measure it again on others.
    """
    allowed = [trial for trial in trials if trial.damage <= kl]
    if not allowed:
        return None
    best = max(allowed, key=lambda trial: trial.margin)
    members: list[tuple[Trial, Interval]] = []
    for trial in sorted(allowed, key=lambda trial: -trial.margin):
        gap = bootstrap(np.subtract(best.margins, trial.margins), seed=seed)
        if not gap.above_zero:
            members.append((trial, gap))
    return Region(best, min((trial for trial, _ in members), key=lambda one: one.damage), members)


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in both: more margin for less KL. By KL, the least first.

    Example:
        >>> from dspa_nn.tuning.space import Choice, Vote
        >>> vote = Vote((9, 24), 50, "content", "centred", 32)
        >>> kls, margins = (0.1, 0.2, 0.3), (0.1, 0.05, 0.4)
        >>> found = [Trial(Choice(vote, 8, "both", kl), [gain], [0.0], [kl], 1.0, 0.0)
        ...          for kl, gain in zip(kls, margins)]
        >>> [trial.damage for trial in front_of(found)]
        [0.1, 0.3]
    """
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.damage, -trial.margin)):
        if not front or trial.margin > front[-1].margin:
            front.append(trial)
    return front
