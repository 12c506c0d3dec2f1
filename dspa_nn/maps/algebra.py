"""New maps from maps: the entries of some latents, and the difference of two."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.origin import check_origin
from dspa_nn.maps.rows import compressed

# How a map was fitted: what its files and the maps made from it carry on.
OPTIONS = (
    "gate", "percentile", "k_diff", "sparsify", "max_entries", "threshold", "prompt_tokens",
    "n_triples",
)  # fmt: skip


def restricted(map: Any, rows: Any, columns: Any) -> Any:
    """The map with the entries of these latents only: `ConditionalDifferenceMap.restrict`."""
    row, column = map.row_of_each().numpy(), map.columns.numpy()
    keep = np.ones(len(column), dtype=bool)
    note = dict(map.provenance.get("restricted", {}))
    for name, wanted, have, width in (
        ("rows", rows, row, map.shape[0]),
        ("columns", columns, column, map.shape[1]),
    ):
        if wanted is None:
            continue
        listed = hasattr(wanted, "__array__") or not hasattr(wanted, "__iter__")
        latents = np.unique(np.asarray(wanted if listed else list(wanted)))
        if len(latents) and latents.dtype.kind not in "iu":
            raise MapError(
                f"{name} holds values of type {latents.dtype}; expected latents by number, as "
                "[3, 17]."
            )
        if len(latents) and (latents[0] < 0 or latents[-1] >= width):
            wrong = latents[0] if latents[0] < 0 else latents[-1]
            raise MapError(f"{name} names latent {wrong}; expected latents from 0 to {width - 1}.")
        keep &= np.isin(have, latents)
        note[name] = len(latents)
    return type(map)(
        *compressed(row[keep], column[keep], map.values.numpy()[keep]), map.shape,
        tau=map.tau, gate_mean=map.gate_mean, defaults=map.defaults,
        provenance=map.provenance | {"restricted": note},
        **{name: getattr(map, name) for name in OPTIONS},
    )  # fmt: skip


def difference(one: Any, other: Any) -> Any:
    """One map less another, entry by entry: `ConditionalDifferenceMap.__sub__`."""
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
    both = {k: v for k, v in one.provenance.items() if other.provenance.get(k) == v}
    vectors = {
        name: getattr(one, name)
        for name in ("tau", "gate_mean")
        if _equal(getattr(one, name), getattr(other, name))
    }
    return type(one)(
        *compressed(row, column, table.data), one.shape, **vectors,
        gate=one.gate, percentile=one.percentile, k_diff=one.k_diff,
        prompt_tokens=one.prompt_tokens, defaults=one.defaults,
        provenance=both | {"difference": [one.provenance, other.provenance]},
    )  # fmt: skip


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)
