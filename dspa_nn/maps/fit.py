"""From a table of counts to its conditional-difference map: docs/method.md 3.3 and 3.4."""

from typing import Any

import numpy as np

from dspa_nn.errors import CountsError
from dspa_nn.maps import gates as fitting
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.maps.sparsify import sparsify_map
from dspa_nn.maps.sums import DifferenceMap
from dspa_nn.shapes import SparseTable


def fit_map(
    counts: Any,
    *,
    percentile: float | int | None = None,
    k_diff: int | None = None,
    gate: str = "active",
    sparsify: str = "paper",
    max_entries: int | None = None,
    prompt_tokens: str | None = None,
    strict: bool = False,
) -> ConditionalDifferenceMap:
    """The map of an `ActivationCounts`; keywords and errors are those of its `fit`."""
    percentile = 90 if percentile is None else percentile
    k_diff = 16 if k_diff is None else k_diff
    tokens = "content" if prompt_tokens is None else prompt_tokens
    fitting.check_options(percentile, k_diff, gate, sparsify, max_entries, tokens)
    table, lengths = counts.prompt(tokens)
    kept = np.flatnonzero(lengths > 0)
    without = len(counts) - len(kept)
    if strict and without:
        first = counts.index[lengths == 0][0]
        raise CountsError(
            f"triple {first} has a prompt in which no token counts ({without} such with "
            f"prompt_tokens={tokens!r}); leave it out, or fit with strict=False."
        )
    if not len(kept):
        raise CountsError(
            f"there is no triple to fit from ({len(counts)} counted, {without} of them with "
            f"prompts in which no token counts, prompt_tokens={tokens!r}); count some triples."
        )
    if without:
        table, lengths = table[kept], lengths[kept]
    rho = fitting.densities(table, lengths)
    tau, cut = fitting.thresholds(rho, percentile)
    gates, always = fitting.open_gates(rho, cut, gate)
    mean = fitting.gate_mean(gates, always)
    del rho, table  # as large as the gates and the sums that follow

    def differences(start: int, stop: int) -> SparseTable:
        return counts.differences(kept[start:stop])

    blocks = DifferenceMap(gates, always, differences, counts.d_out)
    del gates  # the blocks have their own, by latent
    sparse = sparsify_map(blocks, sparsify, k_diff, max_entries)
    skipped = dict(counts.skipped)
    if without:
        skipped["no counted prompt token"] = without
    return ConditionalDifferenceMap(
        sparse.rows, sparse.indptr, sparse.columns, sparse.values, (counts.d_in, counts.d_out),
        tau=tau, gate_mean=mean, gate=gate, percentile=percentile,
        k_diff=k_diff, sparsify=sparsify, max_entries=max_entries, threshold=sparse.threshold,
        prompt_tokens=tokens, n_triples=len(kept),
        provenance=counts.provenance | {"skipped": skipped},
    )  # fmt: skip
