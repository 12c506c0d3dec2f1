"""What one request to NDIF carries: a block is looked through and counted before it is sent."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from dspa_nn.checks import check_names
from dspa_nn.errors import MapError, SteeringError
from dspa_nn.extensions import extension_of
from dspa_nn.graph import origin as origins_of_maps
from dspa_nn.graph import portable
from dspa_nn.graph.rules import KINDS
from dspa_nn.ndif.adapter import pickled, walk
from dspa_nn.ndif.sizes import (
    LEVEL,
    MAX_REQUEST_BYTES,
    Payload,
    encoders_alone,
    estimated,
    parts,
    ways_of,
)
from dspa_nn.shipping import (
    Shipment,
    ShippableDSPA,
    ShippableMap,
    ShippablePlan,
    ShippableSAE,
    registered,
    shipping,
)


def check_fits(load: Shipment) -> None:
    """Refuse, before anything is sent, a map or plan that fits none of the block's `DSPA`s."""
    origins: list[Mapping[str, Any]] = [map.provenance for map in load.maps]
    origins += [
        origin for plan in load.plans for origin in cast(Any, portable).origins_of_plan(plan.made)
    ]
    for origin in origins:
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
    if load.dspas and not any(way.nbytes <= limit for way in less):
        d_model = max(dspa.output_sae.d_model for dspa in load.dspas)
        words += (
            f"; none of that is sure to fit, as SAEs of up to {limit // (2 * d_model + 4):,} "
            "latents, planned first and in bfloat16, are"
        )
    return words


def payload_of(dspa: ShippableDSPA, map: object = None, **rules: object) -> Payload:
    """Count what `apply(map)` sends in one request; without a map, what a counting job sends.

    >>> payload_of(dspa, map).parts[2].name
    'decoder, 38 rows'

    Args:
        dspa: the model and its SAEs.
        map: a map, or plans (one, or one per row).
        rules: the extensions that `apply` will be given, as gate=, score=, select= and edit=.

    Raises:
        MapError: it is neither, or a map of another model or SAE.
        SteeringError: a keyword that is none of these, or an extension without a map.
        ExtensionError: what is no extension, or one of another point.
    """
    check_names("payload", rules, KINDS, SteeringError, f"a map, {', '.join(KINDS)}")
    chosen = {kind: extension_of(kind, value) for kind, value in rules.items()}
    chosen = {kind: one for kind, one in chosen.items() if one is not None}
    if chosen and map is None:
        raise SteeringError(
            f"payload was given {', '.join(chosen)} without a map, and a counting job sends no "
            "extension; give the map that apply will be given, too"
        )
    load = Shipment()
    load.dspas, load.extensions = [dspa], list(chosen.values())
    if map is not None:
        load.plans, load.maps = plans_and_maps(map)
        check_fits(load)
    load.decide()
    sent: object = (dspa, map, *load.extensions)
    if map is None:
        load.columns = torch.zeros(0, dtype=torch.int64)
        sent = registered((dspa.input_sae.encoder, dspa.output_sae.encoder))
    lines = [part for part in parts(load) if map is not None or part.nbytes]
    measured = compressed = None
    if sum(part.nbytes for part in lines) <= MAX_REQUEST_BYTES:
        import zstandard

        with shipping(load):
            blob = pickled(sent)
        measured = len(blob)
        compressed = len(zstandard.ZstdCompressor(level=LEVEL).compress(blob))
    return Payload(lines, estimated(load), measured, compressed, ways_of(load))


def payload_of_encoders(inputs: Sequence[ShippableSAE], outputs: Sequence[ShippableSAE]) -> Payload:
    """Count what a counting job of several SAEs sends: all their encoders, and no decoder.

    >>> payload_of_encoders([dspa.input_sae], [dspa.output_sae]).parts[0].name
    'input encoder'
    """
    return Payload(*encoders_alone(inputs, outputs), measured=None, compressed=None, ways=[])


def plans_and_maps(map: Any) -> tuple[list[ShippablePlan], list[ShippableMap]]:
    """Tell plans (one, or one per row) from a map, or from the maps of a sum.

    >>> [len(kind) for kind in plans_and_maps(map)]
    [0, 1]

    Raises:
        MapError: it is neither.
    """
    try:
        planned = isinstance(cast(Any, portable).as_portable(map), list)
    except SteeringError as error:
        raise MapError(str(error)) from None
    if not planned:
        return [], [member for _, member in getattr(map, "terms", [(None, map)])]
    plans: list[ShippablePlan] = [*cast(Any, map)] if isinstance(map, (list, tuple)) else [map]
    return plans, []


def _refusal(dspa: ShippableDSPA, origin: Mapping[str, Any]) -> MapError | None:
    try:
        cast(Any, origins_of_maps).check_origin(origin, dspa.provenance(), "it is used with")
    except MapError as error:
        return error
    return None


def look_through(value: object) -> Shipment:
    """Collect the toolkit's objects in what is about to be pickled, without copying a tensor.

    >>> look_through({"nested": [dspa, map]}).columns.dtype
    torch.int64
    """
    with shipping(Shipment()) as shipment:
        walk(value)
    shipment.decide()
    return shipment
