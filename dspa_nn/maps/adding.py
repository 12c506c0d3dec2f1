"""Maps added up: whether they may be, their entries together, and what they have in common."""

from collections.abc import Iterable
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.origin import check_origin
from dspa_nn.imports import late
from dspa_nn.maps.options import MapGate, PromptTokens
from dspa_nn.maps.rows import Compressed, compressed
from dspa_nn.shapes import SparseTable


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
