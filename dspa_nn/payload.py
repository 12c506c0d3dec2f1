"""What is put in the place of the toolkit's objects when a block is pickled for NDIF.

Only what an edit can touch travels: of the decoder the rows that a map in the block can edit. So a
block is looked through first (`look_through`), for the maps in it, and pickled after that.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.settings import check_origin

# A request passes through the server's Redis, which takes no value above 512 MiB.
MAX_REQUEST_BYTES = 512 * 2**20 - 2**16
# Classes and functions of this room are shipped as source, for want of the package there.
TRAVELS = "dspa_nn.graph"

_current = threading.local()


class Shipment:
    """The toolkit's objects in one block, and what is decided about them.

    Attributes:
        dspas, maps: the objects, in the order in which pickling met them.
        columns: output latents whose decoder rows are sent, ascending; None sends every row.
        looking: only looking through, nothing is sent yet.
    """

    def __init__(self) -> None:
        self.dspas: list[Any] = []
        self.maps: list[Any] = []
        self.columns: Tensor | None = None
        self.looking = True

    def decide(self) -> None:
        """Keep the decoder rows that any of the maps can edit; all of them without a map."""
        self.looking = False
        if self.maps:
            self.columns = torch.unique(torch.cat([map.columns_used() for map in self.maps]))

    def check(self) -> None:
        """Refuse, before anything is sent, a map that fits none of the block's `DSPA`s."""
        for map in self.maps:
            refusals = [error for dspa in self.dspas if (error := _refusal(dspa, map))]
            if refusals and len(refusals) == len(self.dspas):
                raise refusals[0]

    def nbytes(self) -> int:
        """Bytes of every tensor that will be sent; the code adds some 30 kB."""
        return sum(part.nbytes for part in parts(self.dspas, self.maps, self.columns))


class Part(NamedTuple):
    """One line of a payload: what it is, and its bytes."""

    name: str
    nbytes: int


class Payload:
    """What one request carries: predicted from shapes, and measured where it was pickled.

    Attributes:
        parts: every group of tensors with its bytes.
        nbytes: their sum; the code adds some 30 kB.
        measured, compressed: bytes as pickled, and as sent (None where nothing was pickled).
    """

    def __init__(self, parts: list[Part], measured: int | None, compressed: int | None) -> None:
        self.parts, self.measured, self.compressed = parts, measured, compressed
        self.nbytes = sum(part.nbytes for part in parts)

    @property
    def fits(self) -> bool:
        """Whether the server takes a request of this size."""
        size = self.nbytes if self.compressed is None else self.compressed
        return size <= MAX_REQUEST_BYTES

    def __str__(self) -> str:
        lines = [f"{part.nbytes:>15,}  {part.name}" for part in self.parts]
        lines.append(f"{self.nbytes:>15,}  bytes of tensors in all")
        if self.measured is not None:
            share = self.measured / max(1, self.nbytes)
            lines.append(f"{self.measured:>15,}  bytes pickled ({share:.3f} times the tensors)")
            lines.append(f"{self.compressed:>15,}  bytes as sent, compressed")
        verdict = "fits" if self.fits else "does not fit: use narrower SAEs or a payload_dtype"
        lines.append(f"{MAX_REQUEST_BYTES:>15,}  bytes taken by the server: {verdict}")
        return "\n".join(lines)

    __repr__ = __str__


def payload_of(dspa: Any, map: Any = None) -> Payload:
    """Count what `apply(map)` sends in one request; without a map, what a counting job sends."""
    shipment = Shipment()
    shipment.dspas, shipment.maps = [dspa], [] if map is None else [map]
    shipment.decide()
    found = parts(shipment.dspas, shipment.maps, shipment.columns)
    encoders = (dspa.input_sae.encoder, dspa.output_sae.encoder)
    sent: Any = (dspa, map)
    if map is None:
        found, sent = found[:2], _registered(encoders)
    measured = compressed = None
    if sum(part.nbytes for part in found) <= MAX_REQUEST_BYTES:
        import zstandard
        from nnsight.intervention.serialization import dumps

        with shipping(shipment):
            blob = dumps(sent)
        measured = len(blob)
        compressed = len(zstandard.ZstdCompressor(level=6).compress(blob))
    return Payload(found, measured, compressed)


def predicted(
    d_model: int, d_in: int, d_out: int, *, columns: int, itemsize: int = 4, encoders: int = 2
) -> list[Part]:
    """The same from shapes alone: weights and two vectors of each encoder, and decoder rows.

    >>> sum(part.nbytes for part in predicted(3584, 16384, 16384, columns=159))
    472303616
    """
    widths = {"input encoder": d_in, "output encoder": d_out}
    found = [Part(name, width * (d_model + 2) * itemsize) for name, width in widths.items()][
        -encoders:
    ]
    return [*found, Part(f"decoder, {columns} rows", columns * d_model * itemsize)]


def parts(dspas: list[Any], maps: list[Any], columns: Tensor | None) -> list[Part]:
    """Return the bytes of what travels, part by part."""
    lines = []
    for dspa in dspas:
        for name, sae in (("input", dspa.input_sae), ("output", dspa.output_sae)):
            tensors = sae.encoder.tensors.values()
            lines.append(Part(f"{name} encoder", sum(tensor.nbytes for tensor in tensors)))
        decoder = dspa.output_sae.decoder
        rows = len(decoder) if columns is None else len(columns)
        lines.append(Part(f"decoder, {rows} rows", rows * decoder[:1].nbytes))
    for map in maps:
        arrays = map.portable().arrays.values()
        size = sum(value.nbytes for value in arrays if isinstance(value, Tensor))
        lines.append(Part(f"map, {len(map.rows)} rows", size))
    return lines


def _refusal(dspa: Any, map: Any) -> Exception | None:
    try:
        check_origin(map.provenance, dspa.provenance(), "it is used with", MapError)
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
    from dspa_nn.graph.remote import RemoteDSPA

    shipment = _met(dspa, "dspas")
    own = vars(dspa.portable(None if shipment is None else shipment.columns))
    # The server has devices of its own, and puts them beside its model.
    own["encoders"] = tuple(encoder.on("cpu") for encoder in own["encoders"])
    own["decoder"] = own["decoder"].cpu()
    if shipment is not None:
        own["model"] = dspa.model  # by reference: nnsight's pickler knows models by name
    return _registered(RemoteDSPA), tuple(own.values())


def reduce_map(map: Any) -> tuple[Any, ...]:
    """Reduce a map to itself where the toolkit is installed, elsewhere to a `RemoteMap`."""
    _met(map, "maps")
    return _either(map, map.portable())


def reduce_prompt(prompt: Any) -> tuple[Any, ...]:
    """Reduce a `Rendered` to itself where the toolkit is installed, elsewhere to its ids."""
    from dspa_nn.graph.remote import RemotePrompt

    return _either(prompt, RemotePrompt(prompt.prompt_ids.clone(), prompt.content))


def reduce_log(log: Any, record: Any) -> tuple[Any, ...]:
    """Reduce an `EditLog` to itself where the toolkit is installed, elsewhere to its tensors."""
    from dspa_nn.graph.remote import Returned

    return _either(log, Returned(record))


def _either(own: Any, portable: Any) -> tuple[Any, ...]:
    from dspa_nn.graph.remote import arrive

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
