"""DSPA for nnsight: preference steering with sparse autoencoders (arXiv 2603.21461).

The public names, and nothing else. Each is imported when it is first used, so that
`import dspa_nn` costs no more than a moment.
"""

from typing import TYPE_CHECKING

from dspa_nn._version import __version__ as __version__
from dspa_nn.imports import lazy_names

if TYPE_CHECKING:
    from dspa_nn.counts import ActivationCounts
    from dspa_nn.errors import (
        CountsError,
        DSPAError,
        DSPAWarning,
        EvaluationError,
        ExtensionError,
        FileError,
        JudgeError,
        MapError,
        NDIFError,
        SAEError,
        ServingError,
        SteeringError,
        TripleError,
    )
    from dspa_nn.extensions import extension
    from dspa_nn.maps import ConditionalDifferenceMap
    from dspa_nn.ndif import Job, doctor, remote_model
    from dspa_nn.steering import DSPA, EditLog, LayerSweep, Plan, SweepCounts
    from dspa_nn.triples import PreferenceTriple, demo_triples, load_triples

__all__ = [
    "DSPA",
    "ActivationCounts",
    "ConditionalDifferenceMap",
    "CountsError",
    "DSPAError",
    "DSPAWarning",
    "EditLog",
    "EvaluationError",
    "ExtensionError",
    "FileError",
    "Job",
    "JudgeError",
    "LayerSweep",
    "MapError",
    "NDIFError",
    "Plan",
    "PreferenceTriple",
    "SAEError",
    "ServingError",
    "SteeringError",
    "SweepCounts",
    "TripleError",
    "demo_triples",
    "doctor",
    "extension",
    "load_triples",
    "remote_model",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "counts": ["ActivationCounts"],
        "errors": [
            "CountsError",
            "DSPAError",
            "DSPAWarning",
            "EvaluationError",
            "ExtensionError",
            "FileError",
            "JudgeError",
            "MapError",
            "NDIFError",
            "SAEError",
            "ServingError",
            "SteeringError",
            "TripleError",
        ],
        "extensions": ["extension"],
        "maps": ["ConditionalDifferenceMap"],
        "ndif": ["Job", "doctor", "remote_model"],
        "steering": ["DSPA", "EditLog", "LayerSweep", "Plan", "SweepCounts"],
        "triples": ["PreferenceTriple", "demo_triples", "load_triples"],
    },
)
