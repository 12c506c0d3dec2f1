"""What is put in the place of the toolkit's objects when a block is pickled for NDIF.

Only what an edit can touch travels: of the decoder the rows that a map in the block can edit. So a
block is looked through first (`look_through`), for the maps in it, and pickled after that.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

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
    return _registered(RemoteDSPA), tuple(own.values())


def reduce_map(map: Any) -> tuple[Any, ...]:
    """Reduce a map to itself where the toolkit is installed, elsewhere to a `RemoteMap`."""
    _met(map, "maps")
    return _either(map, map.portable())


def reduce_prompt(prompt: Any) -> tuple[Any, ...]:
    """Reduce a `Rendered` to itself where the toolkit is installed, elsewhere to its ids."""
    from dspa_nn.graph.remote import RemotePrompt

    return _either(prompt, RemotePrompt(prompt.prompt_ids.clone(), prompt.content))


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
