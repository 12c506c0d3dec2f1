"""The two maps that the demo compares: the tuned one, and one at the paper's own settings."""

import warnings
from typing import Any, cast

from dspa_nn.counts import ActivationCounts
from dspa_nn.demo.sets import DemoSet
from dspa_nn.errors import DSPAWarning
from dspa_nn.graph.settings import DEFAULTS, FIT_SETTINGS, PLAN_SETTINGS
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions, fill

TUNED, PAPERS = "map, tuned", "map, paper's settings"
# arXiv 2603.21461. It names no rule for the vote: "density" is its literal reading.
PAPERS_STEERING = cast(SteeringOptions, {name: DEFAULTS[name] for name in PLAN_SETTINGS})


def tuned_and_paper(
    dspa: DSPA, counts: ActivationCounts, shown: DemoSet
) -> tuple[DSPAMethod, DSPAMethod]:
    """The map with the set's settings or the preset's, and the one with the paper's."""
    of_fit: dict[str, Any] = fill(dict.fromkeys(FIT_SETTINGS), shown.fit, dspa.defaults)
    steering = fill(dict.fromkeys(PLAN_SETTINGS), shown.steering, dspa.defaults)
    tuned = DSPAMethod(TUNED, dspa, counts.fit(**of_fit), cast(SteeringOptions, steering))
    # The paper counts every token of the prompt, markup included. Counts remember the preset, so
    # that the paper's values are named.
    of_paper: dict[str, Any] = {name: DEFAULTS[name] for name in FIT_SETTINGS}
    of_paper["prompt_tokens"] = "all"
    with warnings.catch_warnings():
        # A fit warns of the preset's rule, which this map is not steered by.
        warnings.simplefilter("ignore", DSPAWarning)
        paper = counts.fit(**of_paper)
    return tuned, DSPAMethod(PAPERS, dspa, paper, PAPERS_STEERING)
