"""Choose settings on development triples: what steers best within a limit on damage."""

from dspa_nn.tuning.region import Region, front_of, region_of
from dspa_nn.tuning.report import commands
from dspa_nn.tuning.run import Tuning, check_search, tune
from dspa_nn.tuning.space import Choice, Space, Trial, Vote

__all__ = [
    "Choice",
    "Region",
    "Space",
    "Trial",
    "Tuning",
    "Vote",
    "check_search",
    "commands",
    "front_of",
    "region_of",
    "tune",
]
