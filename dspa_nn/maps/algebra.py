"""Entries of new maps from those of others: some latents alone, or several maps added up."""

import reprlib
from collections.abc import Iterable
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.origin import check_origin
from dspa_nn.imports import late
from dspa_nn.maps.options import MapGate, PromptTokens
from dspa_nn.maps.rows import Array, Compressed, MapRows, compressed
from dspa_nn.shapes import SparseTable

Latents = Iterable[int] | Array


@runtime_checkable
class FittedMap(Protocol):
    """What two maps must agree on before they are added."""

    shape: tuple[int, int]
    provenance: dict[str, Any]
    defaults: dict[str, Any]
    prompt_tokens: PromptTokens
    tau: Tensor | None
    gate_mean: Tensor | None
    gate: MapGate
    percentile: float | None
    k_diff: int | None

    def to_scipy(self) -> SparseTable:
        """The entries as a table [d_in, d_out]."""
        ...


def restricted(
    map: MapRows, rows: Latents | None, columns: Latents | None
) -> tuple[Compressed, dict[str, int]]:
    """The entries of these latents only, and how many latents were named on each side."""
    row, column = map.row_of_each().numpy(), map.columns.numpy()
    keep = np.ones(len(column), dtype=bool)
    named: dict[str, int] = {}
    for name, wanted, latent, width in (
        ("rows", rows, row, map.shape[0]),
        ("columns", columns, column, map.shape[1]),
    ):
        if wanted is not None:
            numbers = _latents(name, wanted, width)
            keep &= np.isin(latent, numbers)
            named[name] = len(numbers)
    return compressed(row[keep], column[keep], map.values.numpy()[keep]), named


def _latents(name: str, wanted: Latents, width: int) -> Integer[np.ndarray, " latents"]:
    """Latents by number, ascending, each once; `MapError` for a mask or for one beyond the SAE."""
    is_array = isinstance(wanted, Tensor | np.ndarray) or not isinstance(wanted, Iterable)
    try:
        numbers = np.unique(np.asarray(wanted if is_array else list(cast(Iterable[int], wanted))))
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise MapError(
            f"{name} is {reprlib.repr(cast(object, wanted))}; expected latents by number, as "
            "[3, 17]."
        ) from None
    if not len(numbers):
        return numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu":
        raise MapError(
            f"{name} holds values of type {numbers.dtype}; expected latents by number, as [3, 17]."
        )
    if numbers[0] < 0 or numbers[-1] >= width:
        wrong = numbers[0] if numbers[0] < 0 else numbers[-1]
        raise MapError(f"{name} names latent {wrong}; expected latents from 0 to {width - 1}.")
    return numbers


def check_summable(one: FittedMap, other: FittedMap) -> None:
    """Refuse two maps whose scores mean nothing together, in a sentence that names both.

    >>> check_summable(map, map)

    Raises:
        MapError: maps of other SAEs, weights or layers, or that count prompt tokens differently.
    """
    if one.shape != other.shape:
        raise MapError(
            f"one map is {one.shape[0]} x {one.shape[1]} and the other "
            f"{other.shape[0]} x {other.shape[1]}; expected two maps of the same SAEs."
        )
    check_origin(one.provenance, other.provenance, "the other map has")
    if one.prompt_tokens != other.prompt_tokens:
        raise MapError(
            f"one map counts prompt tokens as {one.prompt_tokens!r} and the other as "
            f"{other.prompt_tokens!r}, and a run counts in one way alone; fit both alike."
        )


def alike(one: FittedMap, other: FittedMap) -> bool:
    """Whether two maps hold the same and come from the same, so that they count as one in a sum.

    >>> alike(map, map), alike(map, map.restrict(rows=[]))
    (True, False)
    """
    if one is other:
        return True
    plain = ("shape", "provenance", "prompt_tokens", "gate", "percentile", "k_diff", "defaults")
    if any(getattr(one, name) != getattr(other, name) for name in plain):
        return False
    arrays = ("rows", "indptr", "columns", "values", "tau", "gate_mean")
    pairs = [(getattr(one, name), getattr(other, name)) for name in arrays]
    return all(
        first is second or (first is not None and second is not None and torch.equal(first, second))
        for first, second in pairs
    )


def added(terms: Iterable[tuple[float, FittedMap]], shape: tuple[int, int]) -> Compressed:
    """The entries of maps, each times its coefficient, added up in float64 and stored as float32.

    >>> rows, _, columns, values = added([(1.0, map), (-0.5, map)], map.shape)
    >>> bool((values == 0.5 * map.values.numpy()).all())
    True
    """
    total: Any = late("scipy.sparse").csr_array(shape, dtype=np.float64)
    for coefficient, map in terms:
        total = total + coefficient * cast(Any, map.to_scipy())
    total = total.astype(np.float32).tocsr()
    total.eliminate_zeros()
    total.sort_indices()
    row, column = total.tocoo().coords
    return compressed(row, column, total.data)


def in_common(values: Iterable[Any]) -> Any:
    """A value that all of these are, or vector that all hold alike; else None.

    >>> in_common([90, 90]), in_common([90, 75])
    (90, None)
    """
    first, *others = values
    if isinstance(first, Tensor):
        same = all(other is not None and torch.equal(first, other) for other in others)
    else:
        same = all(other == first for other in others)
    return first if same else None
