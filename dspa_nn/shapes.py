"""Names for the arrays that pass between packages: what is in them, and how long they are.

`d_in` and `d_out` are the widths of the input and the output SAE (docs/method.md 2), `n` the
number of triples, `r` the rows of a map that are not empty, `nnz` its stored entries.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor


@runtime_checkable
class SparseTable(Protocol):
    """Sparse rows [n, d] (or columns), as far as they are used here: scipy's csr_array.

    scipy brings no types, and is loaded when the first table is made, not with dspa_nn.
    """

    @property
    def data(self) -> NDArray[Any]:
        """The stored entries [nnz], row by row."""
        ...

    @property
    def indices(self) -> NDArray[Any]:
        """The column of each entry [nnz]."""
        ...

    @property
    def indptr(self) -> NDArray[Any]:
        """Row i is entries indptr[i] to indptr[i + 1]."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the entries."""
        ...

    @property
    def has_canonical_format(self) -> bool:
        """Whether rows are sorted and nothing is stored twice."""
        ...

    @property
    def nnz(self) -> int:
        """Stored entries."""
        ...

    @property
    def T(self) -> "SparseTable":  # noqa: N802 - scipy's name
        """Transposed."""
        ...

    def __getitem__(self, key: Any) -> "SparseTable": ...

    def __add__(self, other: "SparseTable") -> "SparseTable": ...

    def __sub__(self, other: "SparseTable") -> "SparseTable": ...

    def __matmul__(self, other: NDArray[Any]) -> NDArray[Any]: ...

    def tocsr(self) -> "SparseTable":
        """As sparse rows."""
        ...

    def tocsc(self) -> "SparseTable":
        """As sparse columns."""
        ...

    def tocoo(self) -> Any:
        """As coordinates."""
        ...

    def sum(self, axis: int) -> NDArray[Any]:
        """Summed over rows (0) or columns (1)."""
        ...

    def multiply(self, other: Any) -> "SparseTable":
        """Entry by entry."""
        ...

    def toarray(self) -> NDArray[Any]:
        """Dense."""
        ...

    def astype(self, dtype: Any) -> "SparseTable":
        """With entries of another type."""
        ...

    def copy(self) -> "SparseTable":
        """With arrays of its own."""
        ...

    def sort_indices(self) -> None:
        """Sort each row, in place."""
        ...

    def sum_duplicates(self) -> None:
        """Add up what is stored twice, in place."""
        ...

    def eliminate_zeros(self) -> None:
        """Forget stored zeros, in place."""
        ...

    def check_format(self, full_check: bool = True) -> None:
        """Raise ValueError where the arrays contradict each other."""
        ...


DenseMap: TypeAlias = Float32[Tensor, "d_in d_out"]
PromptWeights: TypeAlias = Float64[Tensor, "*batch d_in"]
Scores: TypeAlias = Float64[Tensor, "*batch d_out"]
OutputVector: TypeAlias = Float64[Tensor, " d_out"]
OutputLatents: TypeAlias = Int64[Tensor, " used"]
