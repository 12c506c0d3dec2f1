"""What is compared: a name, a map, and the settings with which it steers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspa_nn.maps.map import ConditionalDifferenceMap


@dataclass(frozen=True)
class Condition:
    """One way to steer, for tables and figures.

    >>> Condition("tuned", map, {"alpha": 1.0})                          # doctest: +SKIP

    Attributes:
        name: a few words for a table.
        map: what `DSPA.fit` returned.
        options: keywords of `DSPA.apply`, `planner` among them; those left out take the preset's.
    """

    name: str
    map: ConditionalDifferenceMap = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
