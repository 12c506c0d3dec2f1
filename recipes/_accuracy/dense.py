"""Maps of small samples as dense arithmetic, for thousands of fits: equal to `counts.fit`.

Unsparsified, s(x) = A^T w(x) = (1/N) sum_k (g_k . w(x)) drho_k needs no map at all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64

from dspa_nn.counts import ActivationCounts
from dspa_nn.graph import select
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.maps import Gate, PromptTokens, densities, gate_mean, open_gates, thresholds

K_PROMPT: int = DEFAULTS["k_prompt"]


@dataclass
class Fitted:
    """What a sample says, before sparsification."""

    gates: Float32[np.ndarray, "n d_in"]
    drho: Float32[np.ndarray, "n d_out"]
    tau: Float64[np.ndarray, " d_in"]
    gate_mean: Float64[np.ndarray, " d_in"]
    gate: Gate
    tokens: PromptTokens
    whole: Any = None  # A [d_in, d_out], made when a sparsification first needs it

    def map(self) -> Float32[np.ndarray, "d_in d_out"]:
        """A itself, float32."""
        if self.whole is None:
            self.whole = self.gates.T @ self.drho / np.float32(len(self.gates))
        return self.whole


def fit_dense(
    counts: ActivationCounts, percentile: float, gate: Gate, tokens: PromptTokens
) -> Fitted:
    """Gates and differences of a sample; prompts without a counted token are left out."""
    table, lengths = counts.prompt(tokens)
    kept = np.flatnonzero(lengths > 0)
    rho = densities(table[kept], lengths[kept])
    tau, cut = thresholds(rho, percentile)
    opened, always = open_gates(rho, cut, gate)
    dense = opened.toarray().astype(np.float32)
    dense[:, always] = 1
    drho = counts.differences()[kept].toarray().astype(np.float32)
    return Fitted(dense, drho, tau, gate_mean(opened, always), gate, tokens)


def prompt_weights(
    fitted: Fitted, test: ActivationCounts, rule: str
) -> Float32[np.ndarray, "n d_in"]:
    """w(x) of each test prompt under a prompt rule."""
    table, lengths = test.prompt(fitted.tokens)
    counts = torch.from_numpy(table.toarray())
    counted = torch.from_numpy(np.asarray(lengths))
    tau, mean = torch.from_numpy(fitted.tau), torch.from_numpy(fitted.gate_mean)
    weights = select.prompt_weights(counts, counted, rule, K_PROMPT, tau, mean, fitted.gate)
    return weights.numpy().astype(np.float32)


def combined(
    fitted: Fitted, test: ActivationCounts, rule: str, sparsify: str, k_diff: int
) -> Float64[np.ndarray, "n d_out"]:
    """s(x) of each test prompt."""
    weights = prompt_weights(fitted, test, rule)
    if sparsify == "none":
        votes = weights @ fitted.gates.T / np.float32(len(fitted.gates))
        return (votes @ fitted.drho).astype(np.float64)
    return (weights @ sparse(fitted.map(), sparsify, k_diff)).astype(np.float64)


def sparse(
    A: Float32[np.ndarray, "d_in d_out"], rule: str, k_diff: int
) -> Float32[np.ndarray, "d_in d_out"]:
    """A sparsified by docs/method.md 3.4: one threshold ("paper") or row by row ("rows")."""
    if A.shape[1] <= 2 * k_diff:
        kept = np.ones_like(A, dtype=bool)
    else:
        # Where values tie at a row's threshold, all of them are kept: a row may then hold more than
        # `k_diff` entries at an end. The "paper" threshold is the same either way.
        bounds = np.partition(A, (k_diff - 1, A.shape[1] - k_diff), axis=1)
        low, high = bounds[:, [k_diff - 1]], bounds[:, [A.shape[1] - k_diff]]
        kept = (low >= A) | (high <= A)
    kept &= A != 0
    if rule == "rows":
        return np.where(kept, A, 0)
    size = np.abs(A)
    return np.where(size >= size[kept].min(initial=np.inf), A, 0)
