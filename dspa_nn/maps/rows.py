"""The entries of a conditional-difference map: compressed sparse rows, and how to look at them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Integer
from torch import Tensor

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.imports import late
from dspa_nn.shapes import DenseMap, OutputLatents, OutputVector, SparseTable
from dspa_nn.shipping import sorted_latents

if TYPE_CHECKING:
    import pandas

# What torch.as_tensor takes: an array, nested lists of numbers, or one number.
Array: TypeAlias = Tensor | np.ndarray | np.generic | Sequence[object] | float | int


class Entry(NamedTuple):
    """One entry of A: input latent, output latent, mean difference of densities."""

    row: int
    column: int
    value: float


class Entries(list[Entry]):
    """Entries of a map, printed as a table."""

    def __repr__(self) -> str:
        lines = [f"{'input latent':>12}  {'output latent':>13}  {'value':>10}"]
        lines += [f"{e.row:>12}  {e.column:>13}  {e.value:>+10.5f}" for e in self]
        return "\n".join(lines)


class MapRows:
    """The rows of A [d_in, d_out] that are not empty, as compressed sparse rows.

    >>> MapRows([7], [0, 2], [0, 3], [0.5, -0.25], (8, 4)).column_sums()
    tensor([ 0.5000,  0.0000,  0.0000, -0.2500], dtype=torch.float64)

    `rows` int64 [r], ascending input latents; `indptr` int64 [r + 1]; `columns` int32 [nnz], the
    output latents; `values` float32 [nnz]. Row `rows[i]` is `indptr[i]` to `indptr[i + 1]`.
    Raises `MapError` where the arrays contradict each other; without `check_entries` the columns
    and values are taken as they are, unread.
    """

    def __init__(
        self, rows: Array, indptr: Array, columns: Array, values: Array, shape: Sequence[int], *,
        check_entries: bool = True,
    ) -> None:  # fmt: skip
        self.rows = torch.as_tensor(rows, dtype=torch.int64)
        self.indptr = torch.as_tensor(indptr, dtype=torch.int64)
        self.columns = torch.as_tensor(columns, dtype=torch.int32)
        self.values = torch.as_tensor(values, dtype=torch.float32)
        self.shape = (int(shape[0]), int(shape[1]))
        self._check_rows()
        if check_entries:
            self._check_entries()

    def _check_rows(self) -> None:
        d_in = self.shape[0]
        rows, indptr, columns = self.rows, self.indptr, self.columns
        sound = (
            len(indptr) == len(rows) + 1
            and int(indptr[0]) == 0
            and int(indptr[-1]) == len(columns) == len(self.values)
            and bool((indptr.diff() >= 0).all())
            and (not len(rows) or (int(rows[0]) >= 0 and int(rows[-1]) < d_in))
            and bool((rows.diff() > 0).all())
        )
        self._refuse_unless(sound)

    def _refuse_unless(self, sound: bool) -> None:
        if not sound:
            raise MapError(
                f"the arrays of a map of shape {self.shape[0]} x {self.shape[1]} contradict each "
                f"other ({len(self.rows)} rows, {len(self.indptr)} row bounds, "
                f"{len(self.columns)} columns, {len(self.values)} values); expected compressed "
                "sparse rows, ascending."
            )

    def _check_entries(self) -> None:
        columns = self.columns
        inside = not len(columns) or (
            int(columns.min()) >= 0 and int(columns.max()) < self.shape[1]
        )
        self._refuse_unless(inside)
        if not bool(torch.isfinite(self.values).all()):
            raise MapError("the values of a map hold NaN or infinity; expected finite numbers.")

    def row_of_each(self) -> Int64[Tensor, " nnz"]:
        """The input latent of every stored entry.

        >>> MapRows([7], [0, 2], [0, 3], [0.5, -0.25], (8, 4)).row_of_each()
        tensor([7, 7])
        """
        return torch.repeat_interleave(self.rows, self.indptr.diff())

    def to_dense(self) -> DenseMap:
        """A as a dense float32 tensor [d_in, d_out]: 1 GiB for two SAEs of width 16,384.

        >>> ConditionalDifferenceMap.from_dense([[0.5, 0.0], [0.0, 0.25]]).to_dense()
        tensor([[0.5000, 0.0000],
                [0.0000, 0.2500]])
        """
        dense = torch.zeros(self.shape, dtype=torch.float32)
        dense[self.row_of_each(), self.columns.long()] = self.values
        return dense

    def to_pandas(self) -> "pandas.DataFrame":
        """The stored entries as a data frame: row (input latent), column (output latent), value.

        >>> ConditionalDifferenceMap.from_dense([[0.5, 0.0], [0.0, 0.25]]).to_pandas()
           row  column  value
        0    0       0   0.50
        1    1       1   0.25
        """
        return late("pandas").DataFrame(
            {
                "row": self.row_of_each().numpy(),
                "column": self.columns.numpy(),
                "value": self.values.numpy(),
            }
        )

    def top(self, n: int = 10) -> Entries:
        """The n entries of largest |value|, strongest first, ties to the lower input and output.

        >>> MapRows([0, 1], [0, 1, 2], [1, 0], [0.5, -0.75], (2, 2)).top(1)
        input latent  output latent       value
                   1              0    -0.75000
        """
        check_positive_int("n", n, MapError)
        rows = self.row_of_each()
        order = np.lexsort((self.columns.numpy(), rows.numpy(), -self.values.abs().numpy()))[:n]
        return Entries(
            Entry(int(rows[i]), int(self.columns[i]), float(self.values[i])) for i in order
        )

    def column(self, latent: int) -> Float64[Tensor, " d_in"]:
        """The entries of one output latent's column, of every input latent, float64 [d_in].

        >>> MapRows([7], [0, 2], [0, 3], [0.5, -0.25], (8, 4)).column(3)[7]
        tensor(-0.2500, dtype=torch.float64)

        Raises `MapError` for a latent that the SAE does not have.
        """
        if not 0 <= latent < self.shape[1]:
            raise MapError(
                f"latent {latent} was asked for; expected output latents from 0 to "
                f"{self.shape[1] - 1}."
            )
        found = torch.zeros(self.shape[0], dtype=torch.float64)
        here = self.columns == latent
        found[self.row_of_each()[here]] = self.values[here].double()
        return found

    def column_sums(self) -> OutputVector:
        """A summed over its rows: which output latents are steered most.

        >>> MapRows([0, 1], [0, 1, 2], [1, 1], [0.5, -0.75], (2, 2)).column_sums()
        tensor([ 0.0000, -0.2500], dtype=torch.float64)
        """
        sums = np.bincount(
            self.columns.numpy(), weights=self.values.double().numpy(), minlength=self.shape[1]
        )
        return torch.as_tensor(sums, dtype=torch.float64)  # of no entries they are integers

    def columns_used(self) -> OutputLatents:
        """The output latents that any row can touch, ascending.

        >>> MapRows([0, 1], [0, 1, 2], [1, 1], [0.5, -0.75], (2, 2)).columns_used()
        tensor([1])
        """
        return sorted_latents(self.columns.long())

    def to_scipy(self) -> SparseTable:
        """A in float64 as scipy's sparse rows [d_in, d_out], empty rows included.

        >>> MapRows([1], [0, 1], [0], [0.5], (2, 2)).to_scipy().toarray()
        array([[0. , 0. ],
               [0.5, 0. ]])
        """
        csr_array = late("scipy.sparse").csr_array

        lengths = np.zeros(self.shape[0], dtype=np.int64)
        lengths[self.rows.numpy()] = np.diff(self.indptr.numpy())
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return csr_array(
            (self.values.double().numpy(), self.columns.numpy(), indptr), shape=self.shape
        )


# `rows`, `indptr`, `columns` and `values` of compressed sparse rows.
Compressed: TypeAlias = tuple[
    Integer[np.ndarray, " r"],
    Integer[np.ndarray, " r_and_1"],
    Integer[np.ndarray, " nnz"],
    Float[np.ndarray, " nnz"],
]


def compressed(
    row: Integer[np.ndarray, " nnz"],
    column: Integer[np.ndarray, " nnz"],
    value: Float[np.ndarray, " nnz"],
) -> Compressed:
    """Entries in ascending order of row and column as `rows`, `indptr`, `columns`, `values`.

    >>> compressed(np.array([2, 2]), np.array([0, 5]), np.array([0.5, 0.25]))
    (array([2]), array([0, 2]), array([0, 5]), array([0.5 , 0.25]))
    """
    lengths = np.bincount(row)
    rows = np.flatnonzero(lengths)
    return rows, np.concatenate([[0], np.cumsum(lengths[rows])]), column, value
