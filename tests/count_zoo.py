"""Random tables of counts, and the map written as docs/method.md 3 says it: dense, with loops."""

import math

import numpy as np
from hypothesis import strategies as st

from dspa_nn.counts import LENGTHS, TABLES, ActivationCounts, CountRows

PROVENANCE = {
    "model_id": "tiny",
    "model_revision": "1",
    "input_layer": 1,
    "output_layer": 3,
    "input_sae": "in",
    "output_sae": "out",
    "input_sae_sha256": "a" * 64,
    "output_sae_sha256": "b" * 64,
    "data_sha256": "c" * 64,
    "template_sha256": "d" * 64,
    "dtype": "float32",
    "batch_plan": {"tokens": 64},
}


def random_block(seed: int, n: int, d_in: int = 7, d_out: int = 9, fire: float = 0.4) -> CountRows:
    """Counts of n triples over few tokens, so that ties and zeros abound."""
    rng = np.random.default_rng(seed)
    lengths = {name: rng.integers(1, 5, n) for name in LENGTHS}
    lengths["markup_length"] = rng.integers(0, 3, n)
    tables = []
    for name in TABLES:
        width = d_in if name in ("content", "markup") else d_out
        length = lengths[f"{name}_length"][:, None]
        tables.append(rng.integers(0, length + 1, (n, width)) * (rng.random((n, width)) < fire))
    index = rng.permutation(10 * n)[:n]
    return CountRows(index, *tables, *(lengths[name] for name in LENGTHS))


def random_counts(seed: int, n: int, d_in: int = 7, d_out: int = 9) -> ActivationCounts:
    return ActivationCounts(random_block(seed, n, d_in, d_out), provenance=PROVENANCE)


seeds = st.integers(0, 2**32 - 1)


def naive_gates(counts: ActivationCounts, percentile: float, gate: str, tokens: str) -> np.ndarray:
    """g of docs/method.md 3.3 from the order statistic, one latent and one prompt after another."""
    table, lengths = counts.prompt(tokens)
    rho = table.toarray() / lengths[:, None]
    n = len(rho)
    gates = np.zeros(rho.shape)
    for i in range(rho.shape[1]):
        cut = sorted(rho[:, i])[math.ceil(percentile * (n - 1) / 100)]
        for k in range(n):
            gates[k, i] = rho[k, i] >= cut and (gate == "literal" or rho[k, i] > 0)
    return gates


def naive_map(counts: ActivationCounts, percentile: float, gate: str, tokens: str) -> np.ndarray:
    """A of docs/method.md 3.3 before sparsification, dense, as float32."""
    gates = naive_gates(counts, percentile, gate, tokens)
    plus = counts.chosen.toarray() / counts.chosen_length[:, None]
    minus = counts.rejected.toarray() / counts.rejected_length[:, None]
    total = np.zeros((counts.d_in, counts.d_out))
    for k in range(len(counts)):
        total += np.outer(gates[k], plus[k] - minus[k])
    return (total / len(counts)).astype(np.float32)


def naive_extremes(row: np.ndarray, k_diff: int) -> set[int]:
    """Columns of a row's k_diff largest and k_diff smallest entries, ties to the lower index."""
    if len(row) <= 2 * k_diff:
        return set(range(len(row)))
    largest = sorted(range(len(row)), key=lambda j: (-row[j], j))[:k_diff]
    smallest = sorted(range(len(row)), key=lambda j: (row[j], j))[:k_diff]
    return {*largest, *smallest}


def naive_sparsify(A: np.ndarray, rule: str, k_diff: int) -> tuple[np.ndarray, float]:
    """docs/method.md 3.4, row by row."""
    extremes = [naive_extremes(row, k_diff) for row in A]
    if rule == "none":
        return A, 0.0
    if rule == "rows":
        mark = np.array([[j in found for j in range(A.shape[1])] for found in extremes])
        return np.where(mark, A, 0), 0.0
    sizes = [abs(A[i, j]) for i, found in enumerate(extremes) for j in found if A[i, j] != 0]
    t = min(sizes, default=0.0)
    return np.where(np.abs(A) < t, 0, A), float(t)
