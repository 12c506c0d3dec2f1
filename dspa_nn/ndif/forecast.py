"""What a remote run will send, told from the shapes of model and SAEs alone."""

from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.ndif.sizes import MAX_REQUEST_BYTES, Part, PartKind


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
    """The parts of a request: weights and two vectors of each encoder, and decoder rows.

    >>> sum(part.nbytes for part in predicted(3584, 16384, 16384, columns=159))
    472303616
    """
    widths = {PartKind.INPUT_ENCODER: d_in, PartKind.OUTPUT_ENCODER: d_out}
    sent = [Part(kind, width * (d_model + 2) * itemsize) for kind, width in widths.items()]
    rows = Part(PartKind.DECODER, columns * d_model * itemsize, columns)
    return [*sent[-encoders:], rows]
