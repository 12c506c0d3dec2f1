"""The paper's tables from nothing, on one of its models: `dspa reproduce`."""

from typing import TYPE_CHECKING

from dspa_nn.imports import lazy_names

if TYPE_CHECKING:
    from dspa_nn.reproduce.needs import Needs, Price, reproduction_needs, shortfalls
    from dspa_nn.reproduce.run import Reproduction, reproduce
    from dspa_nn.reproduce.settings import STEPS, Judges, Settings, Sources, rows_of, steps_of
    from dspa_nn.reproduce.stand_in import stand_in_dspa
    from dspa_nn.reproduce.tables import FIGURES, Row, published

__all__ = [
    "FIGURES",
    "STEPS",
    "Judges",
    "Needs",
    "Price",
    "Reproduction",
    "Row",
    "Settings",
    "Sources",
    "published",
    "reproduce",
    "reproduction_needs",
    "rows_of",
    "shortfalls",
    "stand_in_dspa",
    "steps_of",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "needs": ["Needs", "Price", "reproduction_needs", "shortfalls"],
        "tables": ["FIGURES", "Row", "published"],
        "run": ["Reproduction", "reproduce"],
        "settings": ["STEPS", "Judges", "Settings", "Sources", "rows_of", "steps_of"],
        "stand_in": ["stand_in_dspa"],
    },
)
