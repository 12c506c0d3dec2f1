"""How many bytes a remote run sends, from tensors or from shapes, and what would be less."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dspa_nn.graph.settings import PAPER

# A request passes through the server's Redis, which takes no value above 512 MiB.
MAX_REQUEST_BYTES = 512 * 2**20 - 2**16
# What nnsight compresses a request with.
LEVEL = 6
PLAN_FIRST = "plan = dspa.plan(map, prompt, remote=True), then dspa.apply(plan)"
NARROW = "DSPA(..., payload_dtype='bfloat16'), named inexact"
# Bytes of each tensor that are compressed to estimate the whole.
SAMPLE = 1 << 20


class Part(NamedTuple):
    """One line of a payload: what it is, and its bytes."""

    name: str
    nbytes: int


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


def parts(load: Any) -> list[Part]:
    """Return the bytes of what travels, part by part; load: a `payload.Shipment`."""
    lines = []
    for dspa in load.dspas:
        saes = {"input encoder": dspa.input_sae, "output encoder": dspa.output_sae}
        if load.planned:
            del saes["input encoder"]
        lines += [Part(name, _bytes(_tensors(sae))) for name, sae in saes.items()]
        decoder = dspa.output_sae.decoder
        rows = len(decoder) if load.columns is None else len(load.columns)
        lines.append(Part(f"decoder, {rows} rows", rows * decoder[:1].nbytes))
    for own in load.maps:
        lines.append(Part(f"map, {len(own.rows)} rows", _bytes(_values(own.portable().arrays))))
    for own in load.plans:
        lines.append(Part(f"plan, {len(own.latents)} latents", _bytes(_values(vars(own.made)))))
    return lines


def estimated(load: Any) -> int:
    """Estimate the bytes of a request as it is sent, from a compressed sample of each tensor."""
    total = 30_000.0
    for dspa in load.dspas:
        saes = [dspa.output_sae] if load.planned else [dspa.input_sae, dspa.output_sae]
        total += sum(own.nbytes * _shrinks(own) for sae in saes for own in _tensors(sae))
        decoder = dspa.output_sae.decoder
        rows = len(decoder) if load.columns is None else len(load.columns)
        total += rows * decoder[:1].nbytes * _shrinks(decoder)
    arrays = [own.portable().arrays for own in load.maps]
    for own in arrays + [vars(own.made) for own in load.plans]:
        total += sum(tensor.nbytes * _shrinks(tensor) for tensor in _values(own))
    return int(total)


def _shrinks(tensor: Tensor) -> float:
    """Share of a tensor's bytes that compression leaves, from its first megabyte."""
    import zstandard

    head = tensor.detach().flatten()[: max(1, SAMPLE // tensor.element_size())].cpu()
    blob = head.contiguous().view(torch.uint8).numpy().tobytes()
    return len(zstandard.ZstdCompressor(level=LEVEL).compress(blob)) / max(1, len(blob))


def _tensors(sae: Any) -> list[Tensor]:
    return list(sae.encoder.tensors.values())


def _values(own: dict[str, Any]) -> list[Tensor]:
    return [value for value in own.values() if isinstance(value, Tensor)]


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def ways_of(load: Any) -> list[Way]:
    """What could be sent in the place of a block's objects; load: a `payload.Shipment`."""
    size = {
        kind: sum(part.nbytes for part in parts(load) if part.name.startswith(kind))
        for kind in ("input", "output", "decoder", "map", "plan")
    }
    second = size["output"]
    for dspa in load.dspas:
        rows = 2 * (dspa.defaults.get("k_diff") or PAPER["k_diff"])
        second += min(size["decoder"], rows * dspa.output_sae.decoder[:1].nbytes)
    planned = max(size["input"], second)
    narrow = sum(size.values()) - (size["input"] + size["output"] + size["decoder"]) // 2
    found = [Way("planned first", PLAN_FIRST, planned)] if load.maps else []
    if any(dspa.output_sae.decoder.element_size() == 4 for dspa in load.dspas):
        found.append(Way("in bfloat16", NARROW, narrow))
        if load.maps:
            found.append(Way("planned first, in bfloat16", "both of these", planned // 2))
    return found


def from_shapes(d_model: int, d_in: int, d_out: int, *, columns: int) -> str:
    """Say what an `apply` and a count would send, from shapes alone.

    columns: output latents that the map can edit. The map's own entries come on top.

    >>> print(from_shapes(3584, 16384, 16384, columns=159))
                   float32              bfloat16
          472,303,616 fits      236,151,808 fits  both encoders and 159 decoder rows, ...
    """
    rows = 2 * PAPER["k_diff"]
    sizes = []
    for itemsize in (4, 2):
        found = predicted(d_model, d_in, d_out, columns=columns, itemsize=itemsize)
        planned = found[1].nbytes + min(columns, rows) * d_model * itemsize
        sizes.append((sum(part.nbytes for part in found), found[0].nbytes, planned))
    names = (
        f"both encoders and {columns} decoder rows, in one request",
        "planned first, request 1: the input encoder",
        f"planned first, request 2: the output encoder and {min(columns, rows)} decoder rows",
    )
    lines = [f"{'float32':>22}{'bfloat16':>22}"]
    for name, *both in zip(names, *sizes, strict=True):
        cells = [f"{size:,} {'fits' if size <= MAX_REQUEST_BYTES else 'over'}" for size in both]
        lines.append("".join(f"{cell:>22}" for cell in cells) + f"  {name}")
    lines.append(
        f"bytes before compression; the server takes {MAX_REQUEST_BYTES:,} after it, and a "
        "model.session(remote=True) sends them once for all its prompts"
    )
    return "\n".join(lines)


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
