"""Settings for one data set, chosen on its development rows alone."""

import itertools
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import accuracy
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.steering import DSPAMethod, SteeringOptions

PERCENTILES = (50, 75, 90)
RULES = ("density", "gated", "centred")
# Rules that are chosen from: those that rank best.
KEPT = 2
# k_diff, mode, alpha. Ablation cannot go further than alpha 1; augmenting can, and breaks text
# where it is large.
STRENGTHS = ((16, "ablate", 1.0), (64, "ablate", 1.0), (16, "both", 0.2))


@dataclass(frozen=True)
class Setting:
    """How a map is fitted and how it steers."""

    percentile: float
    prompt_rule: str
    k_diff: int
    mode: str
    alpha: float
    gate: str = "active"

    def fit(self, counts: ActivationCounts) -> dn.ConditionalDifferenceMap:
        """The map of some triples."""
        return counts.fit(percentile=self.percentile, gate=cast(Any, self.gate))

    @property
    def steering(self) -> SteeringOptions:
        """Keywords of `apply`."""
        options: dict[str, Any] = {
            "k_prompt": DEFAULTS["k_prompt"],
            "prompt_rule": self.prompt_rule,
            "k_diff": self.k_diff,
            "mode": self.mode,
            "alpha": self.alpha,
        }
        return cast(SteeringOptions, options)

    def method(
        self,
        name: str,
        dspa: dn.DSPA,
        counts: ActivationCounts,
        map: dn.ConditionalDifferenceMap | None = None,
    ) -> DSPAMethod:
        """Steer by the map of these triples, which may have been fitted before."""
        return DSPAMethod(name, dspa, self.fit(counts) if map is None else map, self.steering)

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def ranked_votes(
    fitting: ActivationCounts, development: ActivationCounts
) -> list[tuple[float, float, str]]:
    """(accuracy, percentile, prompt rule): the percentile of each rule that ranks best, best first.

    Ranking needs no run of the model. Ties go to the lower percentile, of more triples a row.
    """
    best: list[tuple[float, float, str]] = []
    maps = {percentile: fitting.fit(percentile=percentile) for percentile in PERCENTILES}
    for rule in RULES:
        scored = [
            (float(accuracy(map, development, prompt_rule=cast(Any, rule)).mean()), percentile)
            for percentile, map in maps.items()
        ]
        share, percentile = max(scored, key=lambda pair: (pair[0], -pair[1]))
        best.append((share, percentile, rule))
    return sorted(best, key=lambda vote: -vote[0])


def grid(votes: list[tuple[float, float, str]]) -> list[Setting]:
    """Every way to steer with each of the votes."""
    return [
        Setting(percentile, rule, k_diff, mode, alpha)
        for (_, percentile, rule), (k_diff, mode, alpha) in itertools.product(
            sorted(votes, key=lambda vote: RULES.index(vote[2])), STRENGTHS
        )
    ]


def best_of(
    rows: list[dict[str, Any]], votes: list[tuple[float, float, str]], most_kl: float
) -> dict[str, Any]:
    """The row of the largest change of the margin, of the rules that rank best.

    Only rows within the limit on KL are taken; where there is none, the mildest.
    """
    rules = [rule for _, _, rule in votes[:KEPT]]
    kept = [row for row in rows if row["setting"]["prompt_rule"] in rules]
    allowed = [row for row in kept if row["kl"] <= most_kl]
    return max(allowed or kept, key=lambda row: row["change"] if allowed else -row["kl"])


def averages(measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the development rows of what `runs.measure` wrote."""
    chosen, rejected = measured["chosen.change"], measured["rejected.change"]
    both = {
        name: float((measured[f"chosen.{name}"] + measured[f"rejected.{name}"]).mean() / 2)
        for name in ("kl", "edits", "share")
    }
    return {
        "change": float((chosen - rejected).mean()),
        "chosen": float(chosen.mean()),
        "rejected": float(rejected.mean()),
        **both,
    }
