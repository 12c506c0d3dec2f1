"""What stands in for the toolkit's objects when a block is pickled for NDIF.

A map, a plan, an edit log, a prompt and a `DSPA` are sent as plain tensors with the code of
`graph/`, since the block runs where this package is not installed. Each is a `Shipped`, so that
nothing below `ndif/` needs to know `ndif/`, which looks a block through and sends it. Only
nnsight's pickler asks for what stands in: `copy` and `pickle` give the objects themselves.

Only what an edit can touch travels: decoder rows that a map or a plan can edit, and no input
encoder where all is planned. So a block is pickled twice: to look it through, then for good.
"""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from dspa_nn.errors import SteeringError
from dspa_nn.graph.adapter import replace_when_pickled
from dspa_nn.graph.arriving import Returned, arrive
from dspa_nn.graph.encode import Encoder
from dspa_nn.graph.portable import PortableMap, PortablePlan, PortableSum
from dspa_nn.graph.stand_ins import PortableDSPA, PortableMethod, PortablePrompt

# Classes and functions of this package are shipped as source, for want of it there.
TRAVELS = "dspa_nn.graph"

Reduced = tuple[Any, ...]

_stand_ins: dict[type, Callable[[Any], Reduced]] = {}
replace_when_pickled(_stand_ins)


class Shipped:
    """Base of the objects that something stands in for in a block that is sent to NDIF."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _stand_ins[cls] = cls.as_shipped

    def save(self, *args: Any, **options: Any) -> Any:
        """Inside a tracing context, keep this object for after it, as nnsight does.

        Raises:
            SteeringError: outside of one; maps and counts have a `save` of their own.
        """
        from nnsight import save

        try:
            return save(self, *args, **options)
        except (TypeError, ValueError):  # a file was named, or no block is running
            raise SteeringError(
                f"{type(self).__name__}.save was called, and outside a tracing context maps and "
                "counts alone are saved, in files; write to_pandas().to_csv(path) of a plan or an "
                "edit log, and keep the messages of a prompt"
            ) from None

    def as_shipped(self) -> Reduced:
        """Return what nnsight's pickler writes in this object's place, as `__reduce__` does."""
        raise NotImplementedError


def stand_in_for(kind: type, reduce: Callable[[Any], Reduced]) -> None:
    """Let nnsight's pickler ask what to write in place of objects of a class."""
    _stand_ins[kind] = reduce


@runtime_checkable
class ShippableSAE(Protocol):
    """An SAE, as far as sending it is concerned."""

    @property
    def encoder(self) -> Encoder:
        """Its encode."""
        ...

    @property
    def decoder(self) -> Tensor:
        """[width, d_model]."""
        ...

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        ...


@runtime_checkable
class ShippableDSPA(Protocol):
    """A model and its two SAEs, as far as sending them is concerned."""

    @property
    def model(self) -> Any:
        """An nnsight model."""
        ...

    @property
    def input_sae(self) -> ShippableSAE:
        """The SAE whose encoder votes."""
        ...

    @property
    def output_sae(self) -> ShippableSAE:
        """The SAE that is edited with."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The settings that its preset holds."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What identifies the model and the SAEs."""
        ...

    def portable(self, columns: Tensor | None = None) -> PortableDSPA:
        """The tensors that travel, with these decoder rows."""
        ...


@runtime_checkable
class ShippableMap(Protocol):
    """A map, as far as sending it is concerned."""

    @property
    def rows(self) -> Any:
        """Its input latents, one to a row: a sized array."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What identifies the model and the SAEs that it was fitted with."""
        ...

    def columns_used(self) -> Tensor:
        """The output latents that it can edit, ascending."""
        ...

    def portable(self) -> PortableMap | PortableSum:
        """The arrays that travel, of a map or of each map of a sum."""
        ...


@runtime_checkable
class ShippablePlan(Protocol):
    """A plan, as far as sending it is concerned."""

    @property
    def made(self) -> PortablePlan:
        """The plan as tensors."""
        ...

    @property
    def latents(self) -> list[int]:
        """The output latents that it would edit."""
        ...


class Shipment:
    """The toolkit's objects in one block, and what is decided about them.

    Attributes:
        dspas, maps, plans: the objects, in the order in which pickling came by them.
        extensions: a user's gates, scores, selections and edits, which may hold tensors.
        columns: output latents whose decoder rows are sent, ascending; None sends every row.
        looking: only looking through, nothing is sent yet.
    """

    def __init__(self) -> None:
        self.dspas: list[ShippableDSPA] = []
        self.maps: list[ShippableMap] = []
        self.plans: list[ShippablePlan] = []
        self.extensions: list[object] = []
        self.columns: Tensor | None = None
        self.looking = True

    def decide(self) -> None:
        """Keep the decoder rows that a map or plan can edit; all of them without either."""
        self.looking = False
        editable = [map.columns_used() for map in self.maps]
        editable += [torch.tensor(plan.latents, dtype=torch.int64) for plan in self.plans]
        if editable:
            self.columns = sorted_latents(torch.cat(editable))

    @property
    def planned(self) -> bool:
        """Whether plans alone are applied, so that the input encoder is not sent."""
        return bool(self.plans) and not self.maps


def sorted_latents(latents: Tensor) -> Tensor:
    """Latents ascending, each once.

    >>> sorted_latents(torch.tensor([5, 2, 5]))
    tensor([2, 5])
    """
    return cast(Any, torch).unique(latents)  # torch declares no types here


class _Current(threading.local):
    shipment: Shipment | None = None


_current = _Current()


@contextmanager
def shipping(shipment: Shipment) -> Generator[Shipment]:
    """Make `shipment` the one that objects pickled in this thread belong to."""
    before = _current.shipment
    _current.shipment = shipment
    try:
        yield shipment
    finally:
        _current.shipment = before


def reduce_dspa(dspa: ShippableDSPA) -> Reduced:
    """Reduce a `DSPA` to a `graph.stand_ins.PortableDSPA`."""
    shipment = noted(dspa, "dspas")
    parts = vars(dspa.portable(None if shipment is None else shipment.columns))
    # The server has devices of its own, and puts them beside its model.
    parts["encoders"] = tuple(encoder.on("cpu") for encoder in parts["encoders"])
    parts["decoder"] = parts["decoder"].cpu()
    if shipment is not None:
        if shipment.planned:
            parts["encoders"] = (None, parts["encoders"][1])
        parts["model"] = dspa.model  # by reference: nnsight's pickler knows models by name
    return registered(PortableDSPA), tuple(parts.values())


def reduce_map(map: ShippableMap) -> Reduced:
    """Reduce a map to itself where the toolkit is installed, elsewhere to a `PortableMap`."""
    noted(map, "maps")
    return _either(map, map.portable())


def reduce_sum(total: ShippableMap, state: dict[str, Any]) -> Reduced:
    """Reduce a sum of maps likewise; state: its attributes. Each map is noted in its own turn."""
    return _either(total, total.portable(), state)


def reduce_plan(plan: ShippablePlan) -> Reduced:
    """Reduce a `Plan` to itself where the toolkit is installed, elsewhere to its tensors."""
    noted(plan, "plans")
    return _either(plan, plan.made)


def reduce_prompt(prompt: object, prompt_ids: Tensor, content: Tensor) -> Reduced:
    """Reduce a `Rendered` to itself where the toolkit is installed, elsewhere to its ids."""
    return _either(prompt, PortablePrompt(prompt_ids.clone(), content))


def reduce_log(log: object, record: object, **home: str) -> Reduced:
    """Reduce an `EditLog` to itself where the toolkit is installed, elsewhere to its tensors.

    home: `home=` the path of the function that makes a log of the record again, if not `received`.
    """
    return _either(log, Returned(record, **home))


def reduce_method(dspa: object, map: object, options: Mapping[str, Any]) -> Reduced:
    """Reduce a `DSPAMethod` to a `graph.stand_ins.PortableMethod`."""
    return registered(PortableMethod), (dspa, map, dict(options))


def registered(code: Any) -> Any:
    """The same code, which from now on travels as source."""
    travels_by_value(TRAVELS)
    return code


def travels_by_value(module: str) -> None:
    """Let the functions and classes of a module, and of those below it, travel as source.

    >>> travels_by_value("dspa_nn.graph")

    What a notebook or a script (`__main__`) defines always does.
    """
    from nnsight import register

    if module != "__main__":
        register(module)


def _either(item: object, portable: object, state: dict[str, Any] | None = None) -> Reduced:
    home = f"{type(item).__module__}.{type(item).__qualname__}"
    return registered(arrive), (home, state or dict(vars(item)), type(portable), vars(portable))


def noted(item: object, kind: str) -> Shipment | None:
    """The shipment under way; while it is looked through, `item` goes on its list named `kind`."""
    shipment = _current.shipment
    if shipment is not None and shipment.looking:
        known = getattr(shipment, kind)
        if not any(item is other for other in known):
            known.append(item)
    return shipment
