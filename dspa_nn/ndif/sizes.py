"""How many bytes a remote run sends, from tensors or from shapes, and what would be less."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

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


class PartKind(StrEnum):
    """What a group of tensors in a request belongs to."""

    INPUT_ENCODER = "input encoder"
    OUTPUT_ENCODER = "output encoder"
    DECODER = "decoder"
    MAP = "map"
    PLAN = "plan"


# What the number of a part counts.
_COUNTED = {PartKind.DECODER: "rows", PartKind.MAP: "rows", PartKind.PLAN: "latents"}


class Part(NamedTuple):
    """One line of a payload: what it is, its bytes, and how many rows or latents it holds.

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


def parts(load: Shipment) -> list[Part]:
    """Return the bytes of what travels, part by part."""
    lines: list[Part] = []
    for dspa in load.dspas:
        if not load.planned:
            lines.append(Part(PartKind.INPUT_ENCODER, _bytes(_tensors(dspa.input_sae))))
        lines.append(Part(PartKind.OUTPUT_ENCODER, _bytes(_tensors(dspa.output_sae))))
        decoder = dspa.output_sae.decoder
        rows = len(decoder) if load.columns is None else len(load.columns)
        lines.append(Part(PartKind.DECODER, rows * decoder[:1].nbytes, rows))
    sent: set[int] = set()  # maps of one source share vectors, which travel once
    for map in load.maps:
        arrays = [array for array in _arrays(map) if array.data_ptr() not in sent]
        sent.update(array.data_ptr() for array in arrays if array.nbytes)
        lines.append(Part(PartKind.MAP, _bytes(arrays), len(map.rows)))
    for plan in load.plans:
        tensors = _values(vars(plan.made))
        lines += [Part(PartKind.PLAN, _bytes(tensors), len(plan.latents))]
    return lines


def estimated(load: Shipment) -> int:
    """Estimate the bytes of a request as it is sent, from a compressed sample of each tensor."""
    total = 30_000.0
    for dspa in load.dspas:
        saes = [dspa.output_sae] if load.planned else [dspa.input_sae, dspa.output_sae]
        total += sum(tensor.nbytes * _shrinks(tensor) for sae in saes for tensor in _tensors(sae))
        decoder = dspa.output_sae.decoder
        rows = len(decoder) if load.columns is None else len(load.columns)
        total += rows * decoder[:1].nbytes * _shrinks(decoder)
    tensors = [tensor for map in load.maps for tensor in _arrays(map)]
    tensors += [tensor for plan in load.plans for tensor in _values(vars(plan.made))]
    return int(total + sum(tensor.nbytes * _shrinks(tensor) for tensor in tensors))


def encoders_alone(
    inputs: Sequence[ShippableSAE], outputs: Sequence[ShippableSAE]
) -> tuple[list[Part], int]:
    """The parts of a request that carries encoders alone, and an estimate of its bytes as sent."""
    kinds = ((PartKind.INPUT_ENCODER, inputs), (PartKind.OUTPUT_ENCODER, outputs))
    lines = [Part(kind, _bytes(_tensors(sae))) for kind, saes in kinds for sae in saes]
    sent = sum(
        tensor.nbytes * _shrinks(tensor) for sae in (*inputs, *outputs) for tensor in _tensors(sae)
    )
    return lines, int(30_000 + sent)


def _shrinks(tensor: Tensor) -> float:
    """Share of a tensor's bytes that compression leaves, from its first megabyte."""
    import zstandard

    head = tensor.detach().flatten()[: max(1, SAMPLE // tensor.element_size())].cpu()
    blob = head.contiguous().view(torch.uint8).numpy().tobytes()
    return len(zstandard.ZstdCompressor(level=LEVEL).compress(blob)) / max(1, len(blob))


def _tensors(sae: ShippableSAE) -> list[Tensor]:
    return list(sae.encoder.tensors.values())


def _arrays(map: ShippableMap) -> list[Tensor]:
    return _values(vars(map.portable())["arrays"])


def _values(values: dict[str, Any]) -> list[Tensor]:
    return [value for value in values.values() if isinstance(value, Tensor)]


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def ways_of(load: Shipment) -> list[Way]:
    """What could be sent in the place of a block's objects."""
    size = dict.fromkeys(PartKind, 0)
    for part in parts(load):
        size[part.kind] += part.nbytes
    of_input, of_output = size[PartKind.INPUT_ENCODER], size[PartKind.OUTPUT_ENCODER]
    second = of_output
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


def sizes_from_shapes(
    d_model: int, d_in: int, d_out: int, *, columns: int
) -> list[tuple[str, int, int]]:
    """Each request of an `apply` in words, and its bytes in float32 and in bfloat16.

    >>> [name.partition(":")[0] for name, _, _ in sizes_from_shapes(8, 16, 16, columns=4)][1:]
    ['planned first, request 1', 'planned first, request 2']

    The arguments are those of `from_shapes`.
    """
    rows = min(columns, 2 * DEFAULTS["k_diff"])
    names = (
        f"both encoders and {columns} decoder rows, in one request",
        "planned first, request 1: the input encoder",
        f"planned first, request 2: the output encoder and {rows} decoder rows",
    )
    sizes: list[tuple[int, int, int]] = []
    for itemsize in (4, 2):
        sent = predicted(d_model, d_in, d_out, columns=columns, itemsize=itemsize)
        planned = sent[1].nbytes + rows * d_model * itemsize
        sizes.append((sum(part.nbytes for part in sent), sent[0].nbytes, planned))
    return list(zip(names, *sizes, strict=True))


def from_shapes(d_model: int, d_in: int, d_out: int, *, columns: int) -> str:
    """Say what an `apply` and a count would send, from shapes alone.

    columns: output latents that the map can edit. The entries of the map come on top.

    >>> print(from_shapes(3584, 16384, 16384, columns=159))
                   float32              bfloat16
    both encoders and 159 decoder rows, in one request
          472,303,616 fits      236,151,808 fits
    ...
    """
    lines = [f"{'float32':>22}{'bfloat16':>22}"]
    for name, *both in sizes_from_shapes(d_model, d_in, d_out, columns=columns):
        cells = [f"{size:,} {'fits' if size <= MAX_REQUEST_BYTES else 'over'}" for size in both]
        lines += [name, "".join(f"{cell:>22}" for cell in cells)]
    lines += [
        f"bytes before compression; the server takes {MAX_REQUEST_BYTES:,} after it,",
        "and a model.session(remote=True) sends them once for all its prompts",
    ]
    return "\n".join(lines)


def predicted(
    d_model: int, d_in: int, d_out: int, *, columns: int, itemsize: int = 4, encoders: int = 2
) -> list[Part]:
    """The same from shapes alone: weights and two vectors of each encoder, and decoder rows.

    >>> sum(part.nbytes for part in predicted(3584, 16384, 16384, columns=159))
    472303616
    """
    widths = {PartKind.INPUT_ENCODER: d_in, PartKind.OUTPUT_ENCODER: d_out}
    sent = [Part(kind, width * (d_model + 2) * itemsize) for kind, width in widths.items()]
    rows = Part(PartKind.DECODER, columns * d_model * itemsize, columns)
    return [*sent[-encoders:], rows]
