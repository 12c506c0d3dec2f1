"""What the demo compares: the tuned map, the paper's own settings, and four matched controls."""

from typing import Any

from dspa_nn.counts.table import ActivationCounts
from dspa_nn.evaluation.controls import (
    densities,
    density_matched,
    global_difference,
    permuted,
    swapped,
)
from dspa_nn.evaluation.latents import Codes
from dspa_nn.evaluation.methods import Condition
from dspa_nn.evaluation.ranking import mean_difference
from dspa_nn.evaluation.strength import Match, calibrate
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.options import fill

TUNED, PAPERS = "map, tuned", "map, paper's settings"
# arXiv 2603.21461; prompt_tokens "all" is its literal reading.
PAPER = {"alpha": 0.2, "k_prompt": 32, "k_diff": 16, "mode": "ablate", "prompt_rule": "density"}


def tuned_and_paper(dspa: DSPA, counts: ActivationCounts) -> tuple[Condition, Condition]:
    """The map with the preset's settings, and the map of the same triples with the paper's."""
    names = ("percentile", "k_diff", "prompt_tokens")
    of_fit: dict[str, Any] = {name: dspa.defaults.get(name) for name in names}
    own: dict[str, Any] = dict.fromkeys(PAPER)
    tuned = Condition(TUNED, counts.fit(**of_fit), fill(own, dspa.defaults))
    paper = counts.fit(percentile=90, k_diff=PAPER["k_diff"], prompt_tokens="all")
    return tuned, Condition(PAPERS, paper, PAPER)


def matched_controls(
    codes: Codes, counts: ActivationCounts, tuned: Condition, seed: int
) -> tuple[dict[str, Condition], dict[str, Match]]:
    """Controls (a) to (d), brought to the tuned map's strength on the development triples."""
    map, options = tuned.map, tuned.options
    with_planner = {
        "b": density_matched(densities(counts)),
        "d": global_difference(mean_difference(counts)),
    }
    raw = {
        "a": Condition("(a) rows permuted", permuted(map, seed), options),
        "b": Condition("(b) same density", map, {**options, "planner": with_planner["b"]}),
        "c": Condition("(c) swapped", swapped(map), options),
        "d": Condition("(d) global difference", map, {**options, "planner": with_planner["d"]}),
    }
    found = {key: calibrate(codes, control, tuned) for key, control in raw.items()}
    return {k: control for k, (control, _) in found.items()}, {k: m for k, (_, m) in found.items()}
