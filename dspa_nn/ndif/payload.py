"""What one request to NDIF carries: a block is looked through and counted before it is sent."""

import io
from typing import Any

import torch
from torch import Tensor

from dspa_nn.errors import MapError, SteeringError
from dspa_nn.graph.origin import check_origin
from dspa_nn.ndif.sizes import (
    LEVEL,
    MAX_REQUEST_BYTES,
    Payload,
    estimated,
    parts,
    ways_of,
)
from dspa_nn.shipping import Shipment, registered, shipping


def check_fits(load: Shipment) -> None:
    """Refuse, before anything is sent, a map or plan that fits none of the block's `DSPA`s."""
    origins = [map.provenance for map in load.maps]
    for origin in origins + [plan.made.options["origin"] for plan in load.plans]:
        refusals = [error for dspa in load.dspas if (error := _refusal(dspa, origin))]
        if refusals and len(refusals) == len(load.dspas):
            raise refusals[0]


def nbytes_of(load: Shipment) -> int:
    """Bytes of every tensor that will be sent; the code adds some 30 kB."""
    return sum(part.nbytes for part in parts(load))


def too_large(load: Shipment, size: int, limit: int) -> str:
    """Say, in one sentence, why a request of `size` bytes is not sent, and what is less."""
    less = ways_of(load)
    words = f"the request would be {size:,} bytes, and the server takes {limit:,}; nothing was sent"
    if less:
        words += "; less, before compression, is " + ", ".join(map(str, less))
    if not any(way.nbytes <= limit for way in less):
        d_model = max(dspa.output_sae.d_model for dspa in load.dspas)
        words += (
            f"; none of that is sure to fit, as SAEs of up to {limit // (2 * d_model + 4):,} "
            "latents, planned first and in bfloat16, are"
        )
    return words


def payload_of(dspa: Any, map: Any = None) -> Payload:
    """Count what `apply(map)` sends in one request; without a map, what a counting job sends."""
    from dspa_nn.graph.stand_ins import as_portable

    load = Shipment()
    load.dspas = [dspa]
    if map is not None:
        try:
            planned = isinstance(as_portable(map), list)
        except SteeringError as error:
            raise MapError(str(error)) from None
        batch = list(map) if isinstance(map, (list, tuple)) else [map]
        load.plans, load.maps = (batch, []) if planned else ([], batch)
    load.decide()
    sent: Any = (dspa, map)
    if map is None:
        load.columns = torch.zeros(0, dtype=torch.int64)
        sent = registered((dspa.input_sae.encoder, dspa.output_sae.encoder))
    found = [part for part in parts(load) if map is not None or part.nbytes]
    measured = compressed = None
    if sum(part.nbytes for part in found) <= MAX_REQUEST_BYTES:
        import zstandard
        from nnsight.intervention.serialization import dumps

        with shipping(load):
            blob = dumps(sent)
        measured = len(blob)
        compressed = len(zstandard.ZstdCompressor(level=LEVEL).compress(blob))
    return Payload(found, estimated(load), measured, compressed, ways_of(load))


def _refusal(dspa: Any, origin: Any) -> Exception | None:
    try:
        check_origin(origin, dspa.provenance(), "it is used with")
    except MapError as error:
        return error
    return None


def look_through(value: Any) -> Shipment:
    """Find the toolkit's objects in whatever is about to be pickled, without copying a tensor."""
    from nnsight.intervention.serialization import DEFAULT_PROTOCOL, CustomCloudPickler

    class Looker(CustomCloudPickler):
        def persistent_id(self, obj: Any) -> Any:
            return "tensor" if isinstance(obj, Tensor) else super().persistent_id(obj)

    with shipping(Shipment()) as found:
        Looker(io.BytesIO(), protocol=DEFAULT_PROTOCOL).dump(value)
    found.decide()
    return found
