"""Names for the arrays that pass between rooms: what is in them, and how long they are.

`d_in` and `d_out` are the widths of the input and the output SAE (docs/method.md 2), `n` the
number of triples, `r` the rows of a map that are not empty, `nnz` its stored entries.
"""

from typing import Any, TypeAlias

from jaxtyping import Float32, Float64, Int64
from torch import Tensor

# scipy's csr_array, which is loaded when the first table is made, not when dspa_nn is imported.
SparseTable: TypeAlias = Any

DenseMap: TypeAlias = Float32[Tensor, "d_in d_out"]
PromptWeights: TypeAlias = Float64[Tensor, "*batch d_in"]
Scores: TypeAlias = Float64[Tensor, "*batch d_out"]
OutputVector: TypeAlias = Float64[Tensor, " d_out"]
OutputLatents: TypeAlias = Int64[Tensor, " used"]
