"""The gates of the prompts that a map is fitted on: which are open, or what they weigh."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from dspa_nn.errors import CountsError
from dspa_nn.extensions import rule_of
from dspa_nn.graph.rules import Rule, weights_of
from dspa_nn.graph.settings import DEFAULTS, FIT_SETTINGS
from dspa_nn.imports import late
from dspa_nn.maps.dependence import PromptDependence, prompt_dependence, spread
from dspa_nn.maps.fittable import FittableCounts
from dspa_nn.maps.gates import densities, gate_mean, open_gates, thresholds
from dspa_nn.maps.options import FitGate, FitOptions, Gate, PromptTokens, check_fit
from dspa_nn.shapes import SparseTable

# Counts that an extension is given at a time, dense.
_PIECE = 1 << 22


class PromptGates:
    """The gates of a table's prompts; those in which no token counts are left out.

    >>> PromptGates(counts, 50, "active", "content").gates.shape == (len(counts), counts.d_in)
    True

    Attributes:
        kept: the rows of the table that are left. prompt_tokens: which of their tokens count.
        tau: thresholds, float64 [d_in]. mean: of the gates over these prompts, float64 [d_in].
        gate: "active" or "literal", by which the two are taken.
        gates: [kept, d_in], 1.0 where a gate is open, or the weights that an extension gives;
            always: bool [d_in], gates that are open for every prompt and not among `gates`.
        extension: the name of the extension that weighs, or None.

    Raises:
        CountsError: no row is left, or with `strict` one is left out.
        ExtensionError: an extension whose weights cannot be used.
    """

    def __init__(
        self,
        counts: FittableCounts,
        percentile: float | int,
        gate: FitGate,
        tokens: PromptTokens,
        strict: bool = False,
    ) -> None:
        self.counts = counts
        self.prompt_tokens: PromptTokens = tokens
        table, lengths = counts.prompt(tokens)
        self.kept = np.flatnonzero(lengths > 0)
        without = len(counts) - len(self.kept)
        if strict and without:
            first = counts.index[lengths == 0][0]
            raise CountsError(
                f"triple {first} has a prompt in which no token counts ({without} such with "
                f"prompt_tokens={tokens!r}); leave it out, or fit with strict=False."
            )
        if not len(self.kept):
            raise CountsError(
                f"there is no triple to fit from ({len(counts)} counted, {without} of them with "
                f"prompts in which no token counts, prompt_tokens={tokens!r}); count some triples."
            )
        if without:
            table, lengths = table[self.kept], lengths[self.kept]
        rho = densities(table, lengths)
        self.tau, cut = thresholds(rho, percentile)
        self.gate: Gate = "literal" if gate == "literal" else "active"
        self.gates, self.always = open_gates(rho, cut, self.gate)
        self.mean = gate_mean(self.gates, self.always)
        rule = None if isinstance(gate, str) else rule_of("gate", gate)
        self.extension = None if rule is None else rule.name
        if rule is not None:
            self.gates = self._weighed(rule, table, lengths)

    def _weighed(
        self, rule: Rule, table: SparseTable, lengths: Int64[np.ndarray, " kept"]
    ) -> SparseTable:
        """The weights that an extension gives to these prompts, as it is called in a run."""
        sparse = late("scipy.sparse")
        preset: dict[str, Any] = self.counts.provenance.get("defaults") or {}
        k_prompt = preset.get("k_prompt") or DEFAULTS["k_prompt"]
        arrays = {
            "tau": torch.as_tensor(self.tau),
            "gate_mean": torch.as_tensor(self.mean),
            "gate": self.gate,
        }
        step = max(1, _PIECE // max(1, table.shape[1]))
        pieces: list[SparseTable] = []
        for start in range(0, len(lengths), step):
            counts = torch.as_tensor(table[start : start + step].toarray())
            some = torch.tensor(lengths[start : start + step])  # those of a file cannot be written
            weights = weights_of(rule, arrays, counts, some, k_prompt)
            pieces.append(sparse.csr_array(weights.numpy()))
        return sparse.vstack(pieces, format="csr")

    def dependence(self) -> PromptDependence:
        """How much of these triples' preference depends on the prompt."""
        some = spread(len(self.kept))
        rows = self.kept[some]
        longer = self.counts.chosen_length[rows] - self.counts.rejected_length[rows]
        return prompt_dependence(
            self.gates[some],
            self.always,
            self.counts.differences(rows),
            float((np.sign(longer) + 1).mean() / 2),
        )


def gates_of(
    counts: FittableCounts,
    *,
    percentile: float | int | None = None,
    gate: FitGate = "active",
    prompt_tokens: PromptTokens | None = None,
) -> PromptGates:
    """The gates that a fit of these counts opens; None takes the counted preset's value.

    >>> gates_of(counts, percentile=50).mean.shape == (counts.d_in,)
    True
    """
    asked: FitOptions = {"percentile": percentile, "gate": gate, "prompt_tokens": prompt_tokens}
    chosen = check_fit(with_preset(counts, asked))
    return PromptGates(counts, chosen.percentile, chosen.gate, chosen.prompt_tokens)


def with_preset(counts: FittableCounts, options: FitOptions) -> dict[str, Any]:
    """Options of a fit, and where none was given the values of the preset that was counted with.

    Counts remember it, so that they are fitted as `DSPA.fit` does.
    """
    preset: dict[str, Any] = counts.provenance.get("defaults") or {}
    given = {name: preset[name] for name in FIT_SETTINGS if name in preset}
    asked = {name: value for name, value in options.items() if value is not None}
    return {**options, **given, **asked}


def dependence_of(
    counts: FittableCounts,
    percentile: float | int | None,
    gate: FitGate,
    prompt_tokens: PromptTokens | None,
) -> PromptDependence:
    """How much of the preference depends on the prompt: `ActivationCounts.prompt_dependence`."""
    gates = gates_of(counts, percentile=percentile, gate=gate, prompt_tokens=prompt_tokens)
    return gates.dependence()
