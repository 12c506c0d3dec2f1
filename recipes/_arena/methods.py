"""Every method of the comparison: how it is made, and the settings that it is tuned over.

A setting is a plain dict, so that it can be kept in a JSON file; `build` makes a method of it.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from _real.tuning import KEPT, ranked_votes

import dspa_nn as dn
from dspa_nn.baselines import (
    Activations,
    AdapterMethod,
    PromptPrefix,
    Subject,
    VectorMethod,
    WeightsMethod,
    fit_caa,
    fit_cast,
    fit_global_difference,
    fit_random_map,
    fit_repe,
    fit_static_sae,
    one_for_all,
)
from dspa_nn.counts import ActivationCounts
from dspa_nn.graph.settings import DEFAULTS, PLAN_SETTINGS, VOTING_SETTINGS
from dspa_nn.steering import DSPAMethod, SteeringMethod

Settings = dict[str, Any]
VECTORS = {"RepE": fit_repe, "CAA": fit_caa, "CAST": fit_cast}
# Norm of the change over the norm of the residual stream, for a dense vector.
SHARES = (0.03, 0.06, 0.12, 0.25)
# k_diff, mode, alpha, for an edit of latents.
STRENGTHS = ((16, "ablate", 1.0), (64, "ablate", 1.0), (16, "both", 0.2), (16, "both", 0.4))
PAPER: Settings = {
    "percentile": 90, "prompt_rule": "density", "k_prompt": 32, "k_diff": 16, "mode": "ablate",
    "alpha": 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """What methods are fitted on: counts and mean hidden states of the same triples.

    Attributes:
        dspa: the model and its SAEs. counts, taken: of the fitting triples. stream: norm of the
            residual stream at the output layer.
    """

    dspa: dn.DSPA
    counts: ActivationCounts
    taken: Activations
    stream: float

    @cached_property
    def subject(self) -> Subject:
        """The model without its SAEs."""
        return Subject(self.dspa)

    @cached_property
    def made(self) -> dict[Any, Any]:
        """Maps and vectors that were fitted before."""
        return {}

    def of(self, rows: list[int]) -> "Fitted":
        """The same for some of the triples."""
        where = torch.tensor(rows)
        names = ("chosen", "rejected", "prompts")
        taken = replace(self.taken, **{name: getattr(self.taken, name)[where] for name in names})
        index = [self.counts.index[row] for row in rows]
        return replace(self, counts=self.counts.subset(index), taken=taken)

    def once(self, key: Any, make: Any) -> Any:
        """What was made for a key before, or is made now."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def map(self, percentile: float) -> dn.ConditionalDifferenceMap:
        """DSPA's map at a percentile."""
        return self.once(percentile, lambda: self.counts.fit(percentile=percentile))


def edit_of(setting: Settings) -> Any:
    """The keywords of `apply` that a setting names."""
    given = {"k_prompt": DEFAULTS["k_prompt"], **setting}
    return {name: given[name] for name in PLAN_SETTINGS if name in given}


def unconditional(setting: Settings) -> Any:
    """Those of them that do not say how a prompt's latents vote."""
    return {name: value for name, value in edit_of(setting).items() if name not in VOTING_SETTINGS}


def build(fitted: Fitted, method: str, setting: Settings, name: str = "") -> SteeringMethod:
    """A method of the comparison with one setting."""
    dspa, name = fitted.dspa, name or method
    if method == "prompt prefix":
        return PromptPrefix(name, fitted.subject, setting["instruction"])
    if method in VECTORS:
        vector = fitted.once(method, lambda: VECTORS[method](dspa, fitted.taken))
        found = VectorMethod(name, fitted.subject, vector)
        if "scale" in setting:
            return found.at(setting["scale"])
        return found.at_norm(setting["share"] * fitted.stream)
    if method == "Static-SAE":
        map = fitted.once(method, lambda: fit_static_sae(dspa, fitted.counts))
        return one_for_all(name, dspa, map, unconditional(setting))
    if method == "global difference":
        map = fitted.once(method, lambda: fit_global_difference(dspa, fitted.counts))
        return one_for_all(name, dspa, map, unconditional(setting))
    if method in ("DSPA", "DSPA, paper's settings"):
        return DSPAMethod(name, dspa, fitted.map(setting["percentile"]), edit_of(setting))
    if method == "random map":
        map = fitted.map(setting["percentile"])
        drawn = fitted.once(("random", setting["percentile"]), lambda: fit_random_map(dspa, map))
        return DSPAMethod(name, dspa, drawn, edit_of(setting))
    if method == "trained":
        folder = Path(setting["folder"])
        kind = AdapterMethod if (folder / "adapter_config.json").is_file() else WeightsMethod
        return kind(name, fitted.subject, folder)
    raise ValueError(f"no method {method!r}")


def candidates(
    fitted: Fitted, development: ActivationCounts, instructions: tuple[str, ...]
) -> dict[str, list[Settings]]:
    """Method -> the settings that development triples choose from.

    DSPA's prompt rules are those two that rank best by counts alone, each at its best percentile.
    """
    strengths = [
        {"k_diff": k_diff, "mode": mode, "alpha": alpha} for k_diff, mode, alpha in STRENGTHS
    ]
    votes = ranked_votes(fitted.counts, development)[:KEPT]
    shares = [{"share": share} for share in SHARES]
    return {
        "prompt prefix": [{"instruction": text} for text in instructions],
        "RepE": [{"scale": 0.5}, *shares],
        "CAA": shares,
        "CAST": shares,
        "Static-SAE": [{"k_diff": 16, "mode": "ablate", "alpha": a} for a in (0.25, 0.5, 1.0)],
        "global difference": strengths,
        "DSPA": [
            {"percentile": percentile, "prompt_rule": rule, **strength}
            for _, percentile, rule in votes
            for strength in strengths
        ],
    }


def best_of(rows: list[Settings], most_kl: float) -> Settings:
    """The row of the largest change of the margin within the limit on KL, else the mildest."""
    allowed = [row for row in rows if row["kl"] <= most_kl]
    return max(allowed or rows, key=lambda row: row["change"] if allowed else -row["kl"])
