"""Gates and differences of a table's triples: all that the theory is computed from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.checks import check_choice
from dspa_nn.errors import MapError
from dspa_nn.graph.settings import GATES
from dspa_nn.imports import late
from dspa_nn.maps import FittableCounts, Gate, PromptTokens, gates_of
from dspa_nn.shapes import SparseTable


@dataclass(frozen=True)
class Sample:
    """The gates and the differences of some triples, sparse.

    >>> found = sample_of(counts, percentile=50)
    >>> found.gates.shape == (found.n, counts.d_in), found.drho.shape == (found.n, counts.d_out)
    (True, True)

    Attributes:
        gates: g [n, d_in], 1.0 where a gate is open. drho: [n, d_out].
        tau: float64 [d_in]. gate, prompt_tokens: how gates of new prompts are read.
    """

    gates: SparseTable
    drho: SparseTable
    tau: Float64[np.ndarray, " d_in"]
    gate: Gate = "active"
    prompt_tokens: PromptTokens = "content"

    @property
    def n(self) -> int:
        """How many triples there are."""
        return self.gates.shape[0]

    @property
    def opened(self) -> Int64[np.ndarray, " d_in"]:
        """N_i: for how many triples gate i is open."""
        return np.bincount(self.gates.indices, minlength=self.gates.shape[1]).astype(np.int64)

    @property
    def map(self) -> SparseTable:
        """A = G^T D / N [d_in, d_out] before any sparsification, float64.

        The entries of `ActivationCounts.fit(sparsify="none")` up to the order of the sums.
        """
        gates: Any = self.gates
        return ((gates.T @ self.drho).tocsr() * (1.0 / self.n)).tocsr()


def sample_of(
    counts: FittableCounts,
    *,
    percentile: float | int | None = None,
    gate: Gate = "active",
    prompt_tokens: PromptTokens | None = None,
) -> Sample:
    """Read gates and differences off a table of counts, as a fit does (docs/method.md 3.3).

    >>> sample_of(counts, percentile=50).opened.shape == (counts.d_in,)
    True

    Keywords are those of `ActivationCounts.fit`; None takes the counted preset's value, else the
    paper's. Prompts in which no token counts are left out.

    Raises:
        MapError: an option out of range.
        CountsError: no triple is left.
    """
    check_choice("gate", gate, GATES, MapError)  # the theory is of open gates, not of weights
    found = gates_of(counts, percentile=percentile, gate=gate, prompt_tokens=prompt_tokens)
    gates = _with_always(found.gates, found.always)
    drho = counts.differences(found.kept)
    return Sample(gates, drho, found.tau, gate, found.prompt_tokens)


def _with_always(gates: SparseTable, always: np.ndarray) -> SparseTable:
    """Gates that never close, written out: rare, and the theory's sums need them."""
    if not always.any():
        return gates
    csr_array = late("scipy.sparse").csr_array
    ones = csr_array(np.broadcast_to(always.astype(np.float64), gates.shape))
    return (gates.multiply(~always) + ones).tocsr()
