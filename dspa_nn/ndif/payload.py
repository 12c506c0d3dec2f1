"""What is put in the place of the toolkit's objects when a block is pickled for NDIF.

Only what an edit can touch travels: of the decoder the rows that a map or a plan in the block can
edit, and no input encoder where everything is planned. So a block is looked through first
(`look_through`), for the maps and plans in it, and pickled after that.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.settings import check_origin
from dspa_nn.ndif.sizes import (
    LEVEL,
    MAX_REQUEST_BYTES,
    Payload,
    estimated,
    parts,
    ways_of,
)

# Classes and functions of this room are shipped as source, for want of the package there.
TRAVELS = "dspa_nn.graph"

_current = threading.local()


class Shipment:
    """The toolkit's objects in one block, and what is decided about them.

    Attributes:
        dspas, maps, plans: the objects, in the order in which pickling met them.
        columns: output latents whose decoder rows are sent, ascending; None sends every row.
        looking: only looking through, nothing is sent yet.
    """

    def __init__(self) -> None:
        self.dspas: list[Any] = []
        self.maps: list[Any] = []
        self.plans: list[Any] = []
        self.columns: Tensor | None = None
        self.looking = True

    def decide(self) -> None:
        """Keep the decoder rows that a map or plan can edit; all of them without either."""
        self.looking = False
        found = [map.columns_used() for map in self.maps]
        found += [torch.tensor(plan.latents, dtype=torch.int64) for plan in self.plans]
        if found:
            self.columns = torch.unique(torch.cat(found))

    @property
    def planned(self) -> bool:
        """Whether plans alone are applied, so that the input encoder stays at home."""
        return bool(self.plans) and not self.maps

    def check(self) -> None:
        """Refuse, before anything is sent, a map or plan that fits none of the block's `DSPA`s."""
        origins = [map.provenance for map in self.maps]
        for origin in origins + [plan.made.options["origin"] for plan in self.plans]:
            refusals = [error for dspa in self.dspas if (error := _refusal(dspa, origin))]
            if refusals and len(refusals) == len(self.dspas):
                raise refusals[0]

    def nbytes(self) -> int:
        """Bytes of every tensor that will be sent; the code adds some 30 kB."""
        return sum(part.nbytes for part in parts(self))

    def too_large(self, size: int, limit: int) -> str:
        """Say, in one sentence, why a request of `size` bytes is not sent, and what is less."""
        less = ways_of(self)
        words = (
            f"the request would be {size:,} bytes, and the server takes {limit:,}; nothing was sent"
        )
        if less:
            words += "; less, before compression, is " + ", ".join(map(str, less))
        if not any(way.nbytes <= limit for way in less):
            d_model = max(dspa.output_sae.d_model for dspa in self.dspas)
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
        planned = isinstance(as_portable(map, MapError), list)
        batch = list(map) if isinstance(map, (list, tuple)) else [map]
        load.plans, load.maps = (batch, []) if planned else ([], batch)
    load.decide()
    sent: Any = (dspa, map)
    if map is None:
        load.columns = torch.zeros(0, dtype=torch.int64)
        sent = _registered((dspa.input_sae.encoder, dspa.output_sae.encoder))
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
        check_origin(origin, dspa.provenance(), "it is used with", MapError)
    except MapError as error:
        return error
    return None


@contextmanager
def shipping(shipment: Shipment) -> Iterator[Shipment]:
    """Make `shipment` the one that objects pickled in this thread belong to."""
    before = getattr(_current, "shipment", None)
    _current.shipment = shipment
    try:
        yield shipment
    finally:
        _current.shipment = before


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


def reduce_dspa(dspa: Any) -> tuple[Any, ...]:
    """Reduce a `DSPA` to a `graph.remote.RemoteDSPA`."""
    from dspa_nn.graph.stand_ins import RemoteDSPA

    shipment = _met(dspa, "dspas")
    own = vars(dspa.portable(None if shipment is None else shipment.columns))
    # The server has devices of its own, and puts them beside its model.
    own["encoders"] = tuple(encoder.on("cpu") for encoder in own["encoders"])
    own["decoder"] = own["decoder"].cpu()
    if shipment is not None:
        if shipment.planned:
            own["encoders"] = (None, own["encoders"][1])
        own["model"] = dspa.model  # by reference: nnsight's pickler knows models by name
    return _registered(RemoteDSPA), tuple(own.values())


def reduce_map(map: Any) -> tuple[Any, ...]:
    """Reduce a map to itself where the toolkit is installed, elsewhere to a `RemoteMap`."""
    _met(map, "maps")
    return _either(map, map.portable())


def reduce_plan(plan: Any) -> tuple[Any, ...]:
    """Reduce a `Plan` to itself where the toolkit is installed, elsewhere to its tensors."""
    _met(plan, "plans")
    return _either(plan, plan.made)


def reduce_prompt(prompt: Any) -> tuple[Any, ...]:
    """Reduce a `Rendered` to itself where the toolkit is installed, elsewhere to its ids."""
    from dspa_nn.graph.stand_ins import RemotePrompt

    return _either(prompt, RemotePrompt(prompt.prompt_ids.clone(), prompt.content))


def reduce_log(log: Any, record: Any) -> tuple[Any, ...]:
    """Reduce an `EditLog` to itself where the toolkit is installed, elsewhere to its tensors."""
    from dspa_nn.graph.stand_ins import Returned

    return _either(log, Returned(record))


def _either(own: Any, portable: Any) -> tuple[Any, ...]:
    from dspa_nn.graph.stand_ins import arrive

    home = f"{type(own).__module__}.{type(own).__qualname__}"
    return _registered(arrive), (home, dict(vars(own)), type(portable), vars(portable))


def _met(item: Any, kind: str) -> Shipment | None:
    shipment = getattr(_current, "shipment", None)
    if shipment is not None and shipment.looking:
        found = getattr(shipment, kind)
        if not any(item is other for other in found):
            found.append(item)
    return shipment


def _registered(code: Any) -> Any:
    from nnsight import register

    register(TRAVELS)
    return code
