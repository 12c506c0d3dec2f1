"""Gates and differences of a table's triples: all that the theory is computed from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.errors import CountsError
from dspa_nn.imports import late
from dspa_nn.maps import (
    FittableCounts,
    Gate,
    PromptTokens,
    check_fit,
    densities,
    open_gates,
    thresholds,
)
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
    preset: dict[str, Any] = counts.provenance.get("defaults") or {}
    asked = {"percentile": percentile, "prompt_tokens": prompt_tokens}
    given = {name: preset.get(name) if value is None else value for name, value in asked.items()}
    chosen, _, gate, _, _, tokens = check_fit({**given, "gate": gate})
    table, lengths = counts.prompt(tokens)
    kept = np.flatnonzero(lengths > 0)
    if not len(kept):
        raise CountsError(
            f"none of {len(counts)} triples has a prompt in which a token counts "
            f"(prompt_tokens={tokens!r}); count some triples."
        )
    rho = densities(table[kept], lengths[kept])
    tau, cut = thresholds(rho, chosen)
    gates, always = open_gates(rho, cut, gate)
    return Sample(_with_always(gates, always), counts.differences(kept), tau, gate, tokens)


def _with_always(gates: SparseTable, always: np.ndarray) -> SparseTable:
    """Gates that never close, written out: rare, and the theory's sums need them."""
    if not always.any():
        return gates
    csr_array = late("scipy.sparse").csr_array
    ones = csr_array(np.broadcast_to(always.astype(np.float64), gates.shape))
    return (gates.multiply(~always) + ones).tocsr()
