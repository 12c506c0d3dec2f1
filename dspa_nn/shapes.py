"""Names for the arrays that pass between rooms: what is in them, and how long they are.

`d_in` and `d_out` are the widths of the input and the output SAE (METHOD section 2), `n` the
number of triples, `r` the rows of a map that are not empty, `nnz` its stored entries.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    SparseTable: TypeAlias = csr_array
else:
    # scipy is loaded when the first table is made, not when dspa_nn is imported.
    SparseTable = Any

MapRows: TypeAlias = Int64[Tensor, " r"]
MapIndptr: TypeAlias = Int64[Tensor, " r_plus_1"]
MapColumns: TypeAlias = Int32[Tensor, " nnz"]
MapValues: TypeAlias = Float32[Tensor, " nnz"]
DenseMap: TypeAlias = Float32[Tensor, "d_in d_out"]
PromptVector: TypeAlias = Float64[Tensor, " d_in"]
PromptWeights: TypeAlias = Float64[Tensor, "*batch d_in"]
Scores: TypeAlias = Float64[Tensor, "*batch d_out"]
OutputVector: TypeAlias = Float64[Tensor, " d_out"]
OutputLatents: TypeAlias = Int64[Tensor, " used"]
