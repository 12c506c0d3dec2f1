"""Gates, scores, selections and edits of one's own: typed, checked once, and ready to travel."""

from dspa_nn.extensions.points import POINTS, Kind
from dspa_nn.extensions.register import Extension, declared, extension
from dspa_nn.extensions.resolving import check, debug, extension_of, names, rule_of
from dspa_nn.extensions.variants import (
    Demixed,
    clamped_augment,
    norm_preserving,
    soft_gate,
)

__all__ = [
    "POINTS",
    "Demixed",
    "Extension",
    "Kind",
    "check",
    "clamped_augment",
    "debug",
    "declared",
    "extension",
    "extension_of",
    "names",
    "norm_preserving",
    "rule_of",
    "soft_gate",
]
