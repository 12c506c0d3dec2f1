"""The entries of a map between some of its latents."""

import reprlib
from collections.abc import Iterable
from typing import cast

import numpy as np
from jaxtyping import Integer
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.maps.rows import Array, Compressed, MapRows, compressed

Latents = Iterable[int] | Array


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
