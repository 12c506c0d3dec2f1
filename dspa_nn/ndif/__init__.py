"""Remote runs on NDIF: what travels, how it is sent, what may go wrong."""

from dspa_nn.ndif.adapter import backend_of, new_backend
from dspa_nn.ndif.backend import Backend
from dspa_nn.ndif.diagnosis import Diagnosis, doctor
from dspa_nn.ndif.forecast import from_shapes, predicted, sizes_from_shapes
from dspa_nn.ndif.jobs import Job
from dspa_nn.ndif.messages import explain
from dspa_nn.ndif.models import BackendFactory, adopt, backend_factory, remote_model
from dspa_nn.ndif.payload import look_through, payload_of, payload_of_encoders
from dspa_nn.ndif.sizes import MAX_REQUEST_BYTES, Part, PartKind, Payload, Way

__all__ = [
    "MAX_REQUEST_BYTES",
    "Backend",
    "BackendFactory",
    "Diagnosis",
    "Job",
    "Part",
    "PartKind",
    "Payload",
    "Way",
    "adopt",
    "backend_factory",
    "backend_of",
    "doctor",
    "explain",
    "from_shapes",
    "look_through",
    "new_backend",
    "payload_of",
    "payload_of_encoders",
    "predicted",
    "remote_model",
    "sizes_from_shapes",
]
