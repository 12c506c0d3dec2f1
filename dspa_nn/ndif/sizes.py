"""How many bytes a request to NDIF holds, part by part, and what could be sent in its place."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.shipping import Shipment, ShippableMap, ShippableSAE

# A request passes through the server's Redis, which takes no value above 512 MiB.
MAX_REQUEST_BYTES = 512 * 2**20 - 2**16
# What nnsight compresses a request with.
LEVEL = 6
PLAN_FIRST = "plan = dspa.plan(map, prompt, remote=True), then dspa.apply(plan)"
NARROW = "DSPA(..., payload_dtype='bfloat16'), named inexact"
# Bytes of each tensor that are compressed to estimate the whole.
SAMPLE = 1 << 20
# Bytes of the code that travels, more or less.
CODE = 30_000


class PartKind(StrEnum):
    """What a group of tensors in a request belongs to."""

    INPUT_ENCODER = "input encoder"
    OUTPUT_ENCODER = "output encoder"
    DECODER = "decoder"
    MAP = "map"
    PLAN = "plan"
    EXTENSION = "extension"


# What the number of a part counts.
_COUNTED = {
    PartKind.DECODER: "rows",
    PartKind.MAP: "rows",
    PartKind.PLAN: "latents",
    PartKind.EXTENSION: "tensors",
}


class Part(NamedTuple):
    """One line of a payload: what it is, its bytes, and how many rows, latents or tensors it holds.

    >>> Part(PartKind.DECODER, 5120, 40).name
    'decoder, 40 rows'
    """

    kind: PartKind
    nbytes: int
    number: int | None = None

    @property
    def name(self) -> str:
        """The part in words."""
        if self.number is None:
            return self.kind.value
        return f"{self.kind.value}, {self.number} {_COUNTED[self.kind]}"


class Way(NamedTuple):
    """A way to send a run: its name, how to write it, and the bytes of its largest request."""

    name: str
    code: str
    nbytes: int

    def __str__(self) -> str:
        return f"{self.name} ({self.code}): {self.nbytes:,} bytes"


class Payload:
    """What one request carries: counted from its tensors, and measured where it was pickled.

    Attributes:
        parts: every group of tensors with its bytes.
        nbytes: their sum; the code adds some 30 kB.
        estimate: bytes as sent, compressed, from samples of the tensors.
        measured, compressed: bytes as pickled, and as sent (None where nothing was pickled).
        ways: what else could be sent, and its bytes.
    """

    def __init__(
        self,
        parts: list[Part],
        estimate: int,
        measured: int | None,
        compressed: int | None,
        ways: list[Way],
    ) -> None:
        self.parts, self.estimate, self.ways = parts, estimate, ways
        self.measured, self.compressed = measured, compressed
        self.nbytes = sum(part.nbytes for part in parts)

    @property
    def fits(self) -> bool:
        """Whether the server takes a request of this size."""
        return (self.estimate if self.compressed is None else self.compressed) <= MAX_REQUEST_BYTES

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "parts": [{"name": part.name, "bytes": part.nbytes} for part in self.parts],
            "bytes": self.nbytes,
            "estimated_as_sent": self.estimate,
            "measured": self.measured,
            "measured_as_sent": self.compressed,
            "limit": MAX_REQUEST_BYTES,
            "fits": self.fits,
            "instead": [
                {"name": way.name, "code": way.code, "bytes": way.nbytes} for way in self.ways
            ],
        }

    def __str__(self) -> str:
        lines = [f"{part.nbytes:>15,}  {part.name}" for part in self.parts]
        lines.append(f"{self.nbytes:>15,}  bytes of tensors in all")
        lines.append(f"{self.estimate:>15,}  bytes as sent, compressed: estimated from samples")
        if self.measured is not None:
            share = self.measured / max(1, self.nbytes)
            lines.append(f"{self.measured:>15,}  bytes pickled ({share:.3f} times the tensors)")
            lines.append(f"{self.compressed:>15,}  bytes as sent, compressed: measured")
        verdict = "fits" if self.fits else "does not fit"
        lines.append(f"{MAX_REQUEST_BYTES:>15,}  bytes taken by the server: {verdict}")
        if self.ways:
            lines.append("or, before compression:")
            lines += [f"{way.nbytes:>15,}  {way.name}: {way.code}" for way in self.ways]
            lines.append("and model.session(remote=True) sends them once for all its prompts")
        return "\n".join(lines)

    __repr__ = __str__


class _Group(NamedTuple):
    """The tensors of one part, and how many bytes of each are sent: of a decoder, some rows."""

    kind: PartKind
    tensors: list[tuple[Tensor, int]]
    number: int | None = None

    @property
    def part(self) -> Part:
        return Part(self.kind, sum(nbytes for _, nbytes in self.tensors), self.number)


def parts(load: Shipment) -> list[Part]:
    """Return the bytes of what travels, part by part."""
    return [group.part for group in _groups(load)]


def estimated(load: Shipment) -> int:
    """Estimate the bytes of a request as it is sent, from a compressed sample of each tensor."""
    return _as_sent(_groups(load))


def encoders_alone(
    inputs: Sequence[ShippableSAE], outputs: Sequence[ShippableSAE]
) -> tuple[list[Part], int]:
    """The parts of a request that carries encoders alone, and an estimate of its bytes as sent."""
    kinds = ((PartKind.INPUT_ENCODER, inputs), (PartKind.OUTPUT_ENCODER, outputs))
    groups = [_Group(kind, _encoder(sae)) for kind, saes in kinds for sae in saes]
    return [group.part for group in groups], _as_sent(groups)


def _groups(load: Shipment) -> Iterator[_Group]:
    for dspa in load.dspas:
        if not load.planned:
            yield _Group(PartKind.INPUT_ENCODER, _encoder(dspa.input_sae))
        yield _Group(PartKind.OUTPUT_ENCODER, _encoder(dspa.output_sae))
        decoder = dspa.output_sae.decoder
        rows = len(decoder) if load.columns is None else len(load.columns)
        yield _Group(PartKind.DECODER, [(decoder, rows * decoder[:1].nbytes)], rows)
    sent: set[int] = set()  # maps of one source share vectors, which travel once
    for map in load.maps:
        arrays = [array for array in _arrays(map) if array.data_ptr() not in sent]
        sent.update(array.data_ptr() for array in arrays if array.nbytes)
        yield _Group(PartKind.MAP, _whole(arrays), len(map.rows))
    for plan in load.plans:
        yield _Group(PartKind.PLAN, _whole(_tensors_in(vars(plan.made))), len(plan.latents))
    for extension in load.extensions:
        tensors = _tensors_in(vars(extension))
        if tensors:  # a function alone is code
            yield _Group(PartKind.EXTENSION, _whole(tensors), len(tensors))


def _as_sent(groups: Iterable[_Group]) -> int:
    sent = [nbytes * _shrinks(tensor) for group in groups for tensor, nbytes in group.tensors]
    return int(CODE + sum(sent))


def _shrinks(tensor: Tensor) -> float:
    """Share of a tensor's bytes that compression leaves, from its first megabyte."""
    import zstandard

    head = tensor.detach().flatten()[: max(1, SAMPLE // tensor.element_size())].cpu()
    blob = head.contiguous().view(torch.uint8).numpy().tobytes()
    return len(zstandard.ZstdCompressor(level=LEVEL).compress(blob)) / max(1, len(blob))


def _encoder(sae: ShippableSAE) -> list[tuple[Tensor, int]]:
    return _whole(list(sae.encoder.tensors.values()))


def _arrays(map: ShippableMap) -> list[Tensor]:
    return _tensors_in(vars(map.portable())["arrays"])


def _whole(tensors: list[Tensor]) -> list[tuple[Tensor, int]]:
    return [(tensor, tensor.nbytes) for tensor in tensors]


def _tensors_in(value: object) -> list[Tensor]:
    """The tensors in a value, and in the lists, tuples and dicts that it holds."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(cast(Mapping[Any, Any], value).values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in cast(Sequence[Any], value) for tensor in _tensors_in(item)]
    return []


def ways_of(load: Shipment) -> list[Way]:
    """What could be sent in the place of a block's objects."""
    size = dict.fromkeys(PartKind, 0)
    for part in parts(load):
        size[part.kind] += part.nbytes
    of_input, of_output = size[PartKind.INPUT_ENCODER], size[PartKind.OUTPUT_ENCODER]
    second = of_output + size[PartKind.EXTENSION]  # at most: an edit alone goes with a plan
    for dspa in load.dspas:
        rows = 2 * (dspa.defaults.get("k_diff") or DEFAULTS["k_diff"])
        second += min(size[PartKind.DECODER], rows * dspa.output_sae.decoder[:1].nbytes)
    planned = max(of_input, second)
    narrow = sum(size.values()) - (of_input + of_output + size[PartKind.DECODER]) // 2
    ways = [Way("planned first", PLAN_FIRST, planned)] if load.maps else []
    if any(dspa.output_sae.decoder.element_size() == 4 for dspa in load.dspas):
        ways.append(Way("in bfloat16", NARROW, narrow))
        if load.maps:
            ways.append(Way("planned first, in bfloat16", "both of these", planned // 2))
    return ways
