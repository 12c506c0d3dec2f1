"""DSPA for nnsight: preference steering with sparse autoencoders (arXiv 2603.21461).

The public names, and nothing else. Each is imported when it is first used, so that
`import dspa_nn` costs no more than a moment.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dspa_nn._version import __version__ as __version__

_HOMES = {
    "DSPA": "dspa_nn.steering.dspa",
    "ConditionalDifferenceMap": "dspa_nn.maps.map",
    "ActivationCounts": "dspa_nn.counts.table",
    "PreferenceTriple": "dspa_nn.triples",
    "load_triples": "dspa_nn.triples",
    "demo_triples": "dspa_nn.triples",
    "Plan": "dspa_nn.steering.plan",
    "EditLog": "dspa_nn.steering.log",
    "DSPAError": "dspa_nn.errors",
    "TripleError": "dspa_nn.errors",
    "SAEError": "dspa_nn.errors",
    "MapError": "dspa_nn.errors",
    "CountsError": "dspa_nn.errors",
    "SteeringError": "dspa_nn.errors",
    "FileError": "dspa_nn.errors",
    "NDIFError": "dspa_nn.errors",
    "Job": "dspa_nn.ndif.jobs",
    "remote_model": "dspa_nn.ndif.models",
    "doctor": "dspa_nn.ndif.diagnosis",
    "DSPAWarning": "dspa_nn.errors",
}

if TYPE_CHECKING:
    from dspa_nn.counts.table import ActivationCounts
    from dspa_nn.errors import (
        CountsError,
        DSPAError,
        DSPAWarning,
        FileError,
        MapError,
        NDIFError,
        SAEError,
        SteeringError,
        TripleError,
    )
    from dspa_nn.maps.map import ConditionalDifferenceMap
    from dspa_nn.ndif import Job, doctor, remote_model
    from dspa_nn.steering.dspa import DSPA
    from dspa_nn.steering.log import EditLog
    from dspa_nn.steering.plan import Plan
    from dspa_nn.triples import PreferenceTriple, demo_triples, load_triples

__all__ = [
    "DSPA",
    "ActivationCounts",
    "ConditionalDifferenceMap",
    "CountsError",
    "DSPAError",
    "DSPAWarning",
    "EditLog",
    "FileError",
    "Job",
    "MapError",
    "NDIFError",
    "Plan",
    "PreferenceTriple",
    "SAEError",
    "SteeringError",
    "TripleError",
    "demo_triples",
    "doctor",
    "load_triples",
    "remote_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dspa_nn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
