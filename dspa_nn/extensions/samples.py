"""Sample inputs that an extension is tried on before any model runs: small, odd and empty ones."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dspa_nn.errors import ExtensionError
from dspa_nn.extensions.points import Axes, axis_names, shaped, written
from dspa_nn.graph.rules import Decode, Vote
from dspa_nn.graph.select import densities

# What an axis that a class names itself is as long as.
_OWN_AXIS = 3
# Latents planned, rows, tokens and widths of each sample; the last one plans nothing.
_SIZES: tuple[dict[str, Any], ...] = (
    {"batch": 2, "d_in": 48, "d_out": 64, "position": 3, "k": 4, "d_model": 12},
    {"batch": 1, "d_in": 40, "d_out": 24, "position": 1, "k": 1, "d_model": 16},
    {"batch": 3, "d_in": 32, "d_out": 96, "position": 5, "k": 6, "d_model": 8},
    {"batch": 2, "d_in": 26, "d_out": 44, "position": 2, "k": 0, "d_model": 8},
)


class Sample(NamedTuple):
    """Inputs of one call, and the sizes of their axes.

    Attributes:
        axes: sizes by name.
        given: all that a rule of the kind may ask for.
        words: what is special about them, or "".
    """

    axes: Axes
    given: dict[str, Any]
    words: str


def samples(kind: str) -> Iterator[Sample]:
    """Sample inputs for a kind of extension.

    >>> [sample.axes["batch"] for sample in samples("gate")]
    [2, 1, 3, 2]
    """
    for number, sizes in enumerate(_SIZES):
        draw = torch.Generator().manual_seed(number)
        empty = number == len(_SIZES) - 1
        if kind == "edit":
            yield _edit(sizes, draw, torch.bfloat16 if number == 2 else torch.float32)
        else:
            yield _planning(kind, sizes, draw, empty)


def _planning(kind: str, sizes: dict[str, Any], draw: torch.Generator, empty: bool) -> Sample:
    """Inputs of a gate, a score or a selection; empty: prompts that say nothing."""
    axes = {name: sizes[name] for name in ("batch", "d_in", "d_out")}
    batch, d_in, d_out = axes.values()
    lengths = torch.randint(4, 20, (batch,), generator=draw)
    counts = torch.randint(0, 4, (batch, d_in), generator=draw).to(torch.int32)
    if empty:
        counts, lengths = torch.zeros_like(counts), torch.zeros_like(lengths)
    elif batch > 2:
        counts[-1], lengths[-1] = 0, 0  # one prompt in which no token counts
    rho = densities(counts, lengths)
    drawn = torch.randn(d_in // 2, d_out, generator=draw)
    kept = drawn.abs() > 1
    row, column = torch.nonzero(kept, as_tuple=True)
    rows = torch.arange(0, d_in, 2)[: d_in // 2]
    arrays: dict[str, Any] = {
        "rows": rows,
        "indptr": torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)]),
        "columns": column.to(torch.int32),
        "values": drawn[row, column],
        "d_in": d_in,
        "d_out": d_out,
    }
    weights = (counts > 1).to(torch.float64)
    # All zero where nothing was counted: nothing can be chosen by them.
    vote = Vote(arrays)
    given: dict[str, Any] = {
        "counts": counts,
        "lengths": lengths,
        "densities": rho,
        "tau": torch.rand(d_in, generator=draw, dtype=torch.float64) / 4,
        "gate_mean": torch.rand(d_in, generator=draw, dtype=torch.float64),
        "gate": "active",
        "k_prompt": 8,
        "weights": weights,
        "scores": vote(weights),
        "vote": vote,
        **arrays,
        "k_diff": 200 if batch == 1 else 4,
        "mode": "both" if batch > 1 else "ablate",
        "allowed": torch.arange(d_out) % 3 > 0 if batch > 2 else None,
    }
    words = "prompts of which no token counts, and scores of 0" if empty else ""
    if kind == "select":
        axes = {name: axes[name] for name in ("batch", "d_out", "d_in")}
    return Sample(axes, given, words)


def _edit(sizes: dict[str, Any], draw: torch.Generator, dtype: torch.dtype) -> Sample:
    axes = {name: sizes[name] for name in ("batch", "position", "k", "d_model")}
    batch, position, k, d_model = axes.values()
    latents = torch.randn(batch, position, k, generator=draw).clamp(min=0)
    strongest = latents.amax(-1, keepdim=True) + 1 if k else torch.ones(batch, position, 1)
    latents[:, 0], strongest[:, 0] = 0, 0  # a token on which no latent is active
    signs = torch.ones(batch, 1, k)
    signs[..., 1::2] = -1
    signs[..., 3::4] = 0  # padding
    rows = torch.randn(batch, k, d_model, generator=draw)
    hidden = torch.randn(batch, position, d_model, generator=draw)
    given: dict[str, Any] = {
        "latents": latents.to(dtype),
        "strongest": strongest.to(dtype),
        "signs": signs.to(dtype),
        "alpha": 0.5,
        "hidden": hidden.to(dtype),
        "decode": Decode(rows.to(dtype), None),
    }
    words = "" if k else "a plan of no latent"
    return Sample(axes, given, words)


def sample_of_class(kind: type, axes: Mapping[str, int], where: str) -> Any:
    """An object of a small class for these sizes, made of its constructor's annotations.

    A class whose tensors must be consistent with each other has a classmethod `sample(axes)`.

    >>> class Doubled:
    ...     def __init__(self, by: float = 2.0) -> None:
    ...         self.by = by
    >>> sample_of_class(Doubled, {}, "").by
    2.0
    """
    own = getattr(kind, "sample", None)
    if own is not None:
        return own(dict(axes))
    given: dict[str, Any] = {}
    sizes = dict(axes)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is not parameter.empty:
            continue
        annotation = parameter.annotation
        if shaped(annotation):
            given[name] = _tensor(annotation, sizes, draw)
        elif annotation in (int, float):
            given[name] = annotation(2)
        else:
            hint = "none" if annotation is parameter.empty else written(annotation)
            raise ExtensionError(
                f"{kind.__name__} takes {name}, whose type is {hint}, and is tried with tensors of "
                "jaxtyping, numbers and defaults; annotate it so, give it a default, or write a "
                f"classmethod sample(axes) that makes one ({where})"
            )
    return kind(**given)


def _tensor(annotation: Any, sizes: dict[str, int], draw: torch.Generator) -> Tensor:
    """A tensor as a jaxtyping annotation wants it; new axes take a size, and keep it."""
    shape = [
        int(name) if name.isdigit() else sizes.setdefault(name, _OWN_AXIS)
        for name in axis_names(annotation)
    ]
    names = [str(name) for name in annotation.dtypes]
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        if dtype in names:
            drawn = torch.rand(shape, generator=draw, dtype=torch.float64) + 0.5
            return drawn.to(getattr(torch, dtype))
    if "bool" in names:
        return torch.rand(shape, generator=draw) > 0.5
    dtype = "int64" if "int64" in names else names[0]
    return torch.randint(0, 2, shape, generator=draw).to(getattr(torch, dtype))
