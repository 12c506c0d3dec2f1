"""What stands at each of the four points of a run: what a rule is given there, and returns."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import BFloat16, Bool, Float, Float16, Float32, Float64, Int32, Int64
from torch import Tensor

from dspa_nn.checks import check_choice
from dspa_nn.errors import ExtensionError

Kind = Literal["gate", "score", "select", "edit"]
# Sizes of axes by name, such as {"batch": 2, "d_out": 64}.
Axes = dict[str, int]

_FLOATS: dict[torch.dtype, Any] = {
    torch.float64: Float64,
    torch.float32: Float32,
    torch.float16: Float16,
    torch.bfloat16: BFloat16,
}


class Point(NamedTuple):
    """One of the four points.

    Attributes:
        takes: what a rule may ask for, by name, and the annotation that describes it.
        returns: the annotation of what it returns, or of each of several.
        also: an annotation of what it may return besides, or None.
    """

    takes: Mapping[str, Any]
    returns: tuple[Any, ...]
    also: Any


_COUNTED: dict[str, Any] = {
    "counts": Int32[Tensor, "batch d_in"],
    "lengths": Int64[Tensor, " batch"],
    "densities": Float64[Tensor, "batch d_in"],
}
_ENTRIES: dict[str, Any] = {
    "rows": Int64[Tensor, " r"],
    "indptr": Int64[Tensor, " bounds"],
    "columns": Int32[Tensor, " nnz"],
    "values": Float32[Tensor, " nnz"],
    "d_in": int,
    "d_out": int,
}
_ALLOWED: Any = Bool[Tensor, " d_out"]
_LATENTS = Float[Tensor, "batch position k"]
_STREAM = Float[Tensor, "batch position d_model"]

POINTS: dict[str, Point] = {
    "gate": Point(
        takes={
            **_COUNTED,
            "tau": Float64[Tensor, " d_in"],
            "gate_mean": Float64[Tensor, " d_in"],
            "gate": str,
            "k_prompt": int,
        },
        returns=(Float64[Tensor, "batch d_in"],),
        also=None,
    ),
    "score": Point(
        takes={
            "weights": Float64[Tensor, "batch d_in"],
            "scores": Float64[Tensor, "batch d_out"],
            "vote": Callable[[Tensor], Tensor],
            **_COUNTED,
            "tau": Float64[Tensor, " d_in"],
            **_ENTRIES,
        },
        returns=(Float64[Tensor, "batch d_out"],),
        also=None,
    ),
    "select": Point(
        takes={
            "scores": Float64[Tensor, "batch d_out"],
            "k_diff": int,
            "mode": str,
            "allowed": _ALLOWED | None,
            "counts": _COUNTED["counts"],
            "lengths": _COUNTED["lengths"],
        },
        returns=(Int64[Tensor, "batch k_augment"], Int64[Tensor, "batch k_ablate"]),
        also=None,
    ),
    "edit": Point(
        takes={
            "latents": _LATENTS,
            "strongest": Float[Tensor, "batch position 1"],
            "signs": Float[Tensor, "batch 1 k"],
            "alpha": float,
            "hidden": _STREAM,
            "decode": Callable[[Tensor], Tensor],
        },
        returns=(_LATENTS,),
        also=_STREAM,
    ),
}


def point_of(kind: object) -> Point:
    """The point of a kind; `ExtensionError` where there is none.

    >>> sorted(point_of("select").takes)
    ['allowed', 'counts', 'k_diff', 'lengths', 'mode', 'scores']
    """
    check_choice("the kind of an extension", kind, tuple(POINTS), ExtensionError)
    return POINTS[str(kind)]


def shaped(annotation: Any) -> bool:
    """Whether an annotation is jaxtyping's, of a tensor with named axes.

    >>> shaped(Float64[Tensor, "batch d_in"]), shaped(int)
    (True, False)
    """
    return hasattr(annotation, "dim_str") and hasattr(annotation, "dtypes")


def axis_names(annotation: Any) -> list[str]:
    """The axes of a jaxtyping annotation, as they are written.

    >>> axis_names(Float64[Tensor, "batch d_in"])
    ['batch', 'd_in']
    """
    return str(annotation.dim_str).split()


def described(value: object) -> str:
    """A value as an annotation would say it.

    >>> described(torch.zeros(2, 3)), described((1, 2))
    ("Float32[Tensor, '2 3']", 'a tuple of 2')
    """
    if isinstance(value, Tensor):
        return f"{_dtype_name(value.dtype)}[Tensor, '{' '.join(map(str, value.shape))}']"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"  # pyright: ignore[reportUnknownArgumentType]
    return "nothing" if value is None else f"a {type(value).__name__}"


def written(annotation: Any) -> str:
    """An annotation as a person writes it.

    >>> written(Float64[Tensor, "batch d_in"]), written(int)
    ("Float64[Tensor, 'batch d_in']", 'int')
    """
    if shaped(annotation):
        kind = str(annotation.__name__).partition("[")[0]
        return f"{kind}[Tensor, '{str(annotation.dim_str).strip()}']"
    if isinstance(annotation, type):
        return annotation.__name__
    text = str(annotation).replace("typing.", "").replace("collections.abc.", "")
    return text.replace("jaxtyping.", "").replace("torch.Tensor", "Tensor")


def with_sizes(annotation: Any, axes: Axes) -> str:
    """An annotation with the sizes of its axes.

    >>> with_sizes(Float64[Tensor, "batch d_out"], {"batch": 2, "d_out": 64})
    "Float64[Tensor, 'batch d_out'] with batch=2, d_out=64"
    """
    known = [f"{name}={axes[name]}" for name in axis_names(annotation) if name in axes]
    return written(annotation) + (f" with {', '.join(known)}" if known else "")


def generic(text: str) -> str:
    """The same text with the kind of number alone, where its width is not what is at fault.

    >>> generic("Float64[Tensor, '2 3']"), generic("Int64[Tensor, '2']")
    ("Float[Tensor, '2 3']", "Int[Tensor, '2']")
    """
    for name in ("Float64", "Float32", "Float16", "BFloat16"):
        text = text.replace(f"{name}[", "Float[")
    return text.replace("Int64[", "Int[").replace("Int32[", "Int[")


def _dtype_name(dtype: torch.dtype) -> str:
    if dtype in _FLOATS:
        return str(_FLOATS[dtype].__name__)
    return str(dtype).removeprefix("torch.").capitalize()
