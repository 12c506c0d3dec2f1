"""Entries of new maps from those of others: some latents alone, or the difference of two maps."""

import reprlib
from collections.abc import Iterable
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.origin import check_origin
from dspa_nn.maps.options import Gate, PromptTokens
from dspa_nn.maps.rows import Array, Compressed, MapRows, compressed
from dspa_nn.shapes import SparseTable

Latents = Iterable[int] | Array


@runtime_checkable
class FittedMap(Protocol):
    """What two maps must agree on before one is taken from the other."""

    shape: tuple[int, int]
    provenance: dict[str, Any]
    defaults: dict[str, Any]
    prompt_tokens: PromptTokens
    tau: Tensor | None
    gate_mean: Tensor | None
    gate: Gate
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


def difference(one: FittedMap, other: FittedMap) -> tuple[Compressed, dict[str, Any]]:
    """The entries of one map less another, and the keywords of a map that has them.

    Raises:
        MapError: maps of other SAEs, models or layers, or that count prompt tokens differently.
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
            f"{other.prompt_tokens!r}, and their difference can steer by one alone; fit both alike."
        )
    table = (one.to_scipy() - other.to_scipy()).astype(np.float32).tocsr()
    table.eliminate_zeros()
    table.sort_indices()
    row, column = table.tocoo().coords
    agreed = {
        key: value for key, value in one.provenance.items() if other.provenance.get(key) == value
    }
    return compressed(row, column, table.data), {
        "tau": _common(one.tau, other.tau),
        "gate_mean": _common(one.gate_mean, other.gate_mean),
        "gate": one.gate,
        "percentile": one.percentile,
        "k_diff": one.k_diff,
        "prompt_tokens": one.prompt_tokens,
        "defaults": one.defaults,
        "provenance": agreed | {"difference": [one.provenance, other.provenance]},
    }


def _common(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """A vector that both maps hold alike, else None."""
    return one if one is not None and other is not None and torch.equal(one, other) else None
