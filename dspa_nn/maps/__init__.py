"""The conditional-difference map: fitted from counts, stored in sparse rows."""

from dspa_nn.maps.constant import one_row, unconditional
from dspa_nn.maps.dependence import PromptDependence
from dspa_nn.maps.difference_sums import DifferenceSums
from dspa_nn.maps.fit import fit_map
from dspa_nn.maps.fittable import FittableCounts
from dspa_nn.maps.gates import densities, differences, gate_mean, open_gates, thresholds
from dspa_nn.maps.identity import identity_of
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.maps.map_sum import MapSum, same_for_every_prompt
from dspa_nn.maps.options import (
    FIT_OPTIONS,
    FitGate,
    FitOptions,
    Gate,
    MapGate,
    PromptTokens,
    Sparsification,
    check_fit,
)
from dspa_nn.maps.prompt_gates import dependence_of, gates_of
from dspa_nn.maps.rows import Entries, Entry, MapRows
from dspa_nn.maps.sparsify import sparsify_map

__all__ = [
    "FIT_OPTIONS",
    "ConditionalDifferenceMap",
    "DifferenceSums",
    "Entries",
    "Entry",
    "FitGate",
    "FitOptions",
    "FittableCounts",
    "Gate",
    "MapGate",
    "MapRows",
    "MapSum",
    "PromptDependence",
    "PromptTokens",
    "Sparsification",
    "check_fit",
    "densities",
    "dependence_of",
    "differences",
    "fit_map",
    "gate_mean",
    "gates_of",
    "identity_of",
    "one_row",
    "open_gates",
    "same_for_every_prompt",
    "sparsify_map",
    "thresholds",
    "unconditional",
]
