"""Counts of a few triples as a batch yields them, and how such pieces become one table."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from dspa_nn.errors import CountsError
from dspa_nn.imports import late
from dspa_nn.shapes import SparseTable

TABLES = ("content", "markup", "chosen", "rejected")
LENGTHS = tuple(f"{table}_length" for table in TABLES)


class CountRows(NamedTuple):
    """The counts of a few triples, as a batch yields them: dense or sparse, numpy or torch.

    Tables are [b, d_in] (content, markup) and [b, d_out] (chosen, rejected): on how many tokens
    each latent fired. Lengths are [b]: how many tokens were counted. `index` [b] numbers the
    triples in their source.
    """

    index: Any
    content: Any
    markup: Any
    chosen: Any
    rejected: Any
    content_length: Any
    markup_length: Any
    chosen_length: Any
    rejected_length: Any


def sparse_rows(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, width: int
) -> SparseTable:
    """Arrays as sparse rows [n, width], as they are: memory-mapped ones stay on disk.

    >>> one = np.ones(1, np.int32)
    >>> np.shares_memory(sparse_rows(one, one, np.array([0, 1]), 2).indices, one)
    True

    scipy gives `indices` the type of `indptr`, which copies them where that is the wider one.
    """
    csr_array = late("scipy.sparse").csr_array

    if len(data) <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
    return csr_array((data, indices, indptr), shape=(len(indptr) - 1, width))


def canonical(table: Any) -> SparseTable:
    """Sparse rows of int32: sorted, nothing stored twice, no stored zero."""
    csr_array = late("scipy.sparse").csr_array

    if isinstance(table, torch.Tensor):
        table = table.detach().cpu().numpy()
    made: SparseTable = csr_array(table)
    if made.dtype != np.int32:
        exact = made.astype(np.int32)
        if (exact.data != made.data).any():
            raise CountsError(
                f"a table of counts has type {made.dtype} and holds what is no whole number; "
                "expected numbers of tokens."
            )
        made = exact
    if not made.has_canonical_format or (made.nnz and not made.data.all()):
        made = made.copy()
        made.sum_duplicates()
        made.eliminate_zeros()
    return made


def stack(pieces: Sequence[CountRows]) -> CountRows:
    """All the rows of several pieces, in the order in which they come."""
    vstack = late("scipy.sparse").vstack

    tables = [
        vstack([canonical(getattr(piece, name)) for piece in pieces], format="csr")
        for name in TABLES
    ]
    vectors = {
        name: np.concatenate([np.asarray(getattr(piece, name), dtype=np.int64) for piece in pieces])
        for name in ("index", *LENGTHS)
    }
    return CountRows(vectors["index"], *tables, *(vectors[name] for name in LENGTHS))


def check_rows(rows: Any) -> None:
    """Refuse tables and lengths that contradict each other (`CountsError`)."""
    n = len(rows.index)
    repeated = rows.index[1:][np.diff(rows.index) == 0]
    if len(repeated):
        raise CountsError(
            f"triple {repeated[0]} was counted twice; expected each triple of the source once."
        )
    for name in TABLES:
        table, lengths = getattr(rows, name), getattr(rows, f"{name}_length")
        if table.nnz and (table.data.min() < 0 or (_largest(table) > lengths).any()):
            raise CountsError(
                f"{name} holds a count below 0 or above its row's number of tokens; "
                "expected the tokens on which a latent fired."
            )
    if rows.content.shape[1] != rows.markup.shape[1]:
        raise CountsError(
            f"content has {rows.content.shape[1]} latents and markup {rows.markup.shape[1]}; "
            "expected the width of one input SAE."
        )
    if rows.chosen.shape[1] != rows.rejected.shape[1]:
        raise CountsError(
            f"chosen has {rows.chosen.shape[1]} latents and rejected {rows.rejected.shape[1]}; "
            "expected the width of one output SAE."
        )
    if n and min(rows.chosen_length.min(), rows.rejected_length.min()) < 1:
        raise CountsError("a response of no tokens has no densities; leave that triple out.")


def _largest(table: SparseTable) -> np.ndarray:
    """The largest count of each row [n], 0 where nothing fired."""
    largest = np.zeros(table.shape[0], dtype=table.dtype)
    filled = np.flatnonzero(np.diff(table.indptr))
    largest[filled] = np.maximum.reduceat(table.data, table.indptr[filled])
    return largest
