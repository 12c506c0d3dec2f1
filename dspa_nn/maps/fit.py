"""From a table of counts to its conditional-difference map: docs/method.md 3.3 and 3.4."""

from collections.abc import Mapping
from typing import Any, Protocol, Unpack, runtime_checkable

import numpy as np
from jaxtyping import Int64

from dspa_nn.checks import check_names, check_type
from dspa_nn.errors import CountsError, MapError
from dspa_nn.graph.settings import DEFAULTS, FIT_SETTINGS
from dspa_nn.maps.dependence import PromptDependence, prompt_dependence, spread
from dspa_nn.maps.gates import densities, gate_mean, open_gates, thresholds
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.maps.options import FIT_OPTIONS, FitOptions, Gate, PromptTokens, check_options
from dspa_nn.maps.sparsify import sparsify_map
from dspa_nn.maps.sums import DifferenceSums
from dspa_nn.progress import warn
from dspa_nn.shapes import SparseTable

# With one or two triples a threshold is a density of theirs, and a gate says that a latent fired.
FEWEST_TRIPLES = 3


@runtime_checkable
class FittableCounts(Protocol):
    """What a fit needs of a table of counts; `ActivationCounts` is one."""

    def __len__(self) -> int: ...

    @property
    def d_in(self) -> int:
        """The width of the input SAE."""
        ...

    @property
    def d_out(self) -> int:
        """The width of the output SAE."""
        ...

    @property
    def index(self) -> Int64[np.ndarray, " n"]:
        """The number of each triple in its source."""
        ...

    @property
    def skipped(self) -> Mapping[str, int]:
        """Why triples of the source are not in the table, and how many."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was counted with what."""
        ...

    @property
    def chosen_length(self) -> Int64[np.ndarray, " n"]:
        """How many tokens of each chosen response were counted."""
        ...

    @property
    def rejected_length(self) -> Int64[np.ndarray, " n"]:
        """How many tokens of each rejected response were counted."""
        ...

    def prompt(self, tokens: PromptTokens) -> tuple[SparseTable, Int64[np.ndarray, " n"]]:
        """Counts of the prompts [n, d_in], and how many of their tokens were counted [n]."""
        ...

    def differences(self, rows: Int64[np.ndarray, " rows"]) -> SparseTable:
        """Chosen less rejected densities of these rows of the table, [rows, d_out]."""
        ...


def checked(options: Mapping[str, Any]) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Fill in the options of a fit and refuse those out of range, without any counts.

    >>> checked({"percentile": 75})
    (75, 16, 'active', 'paper', None, 'content')

    Returns:
        percentile, k_diff, gate, sparsify, max_entries, prompt_tokens.

    Raises:
        MapError: an option that there is none of, or one out of range.
    """
    check_names("fit", options, FIT_OPTIONS, MapError)
    check_type("strict", options.get("strict", False), bool, MapError)
    filled: dict[str, Any] = {name: options.get(name, DEFAULTS[name]) for name in FIT_SETTINGS}
    for name, value in filled.items():
        # gate= and sparsify= take no None; elsewhere it means that nothing was given.
        if value is None and name not in ("gate", "sparsify"):
            filled[name] = DEFAULTS[name]
    values = (
        filled["percentile"], filled["k_diff"], filled["gate"], filled["sparsify"],
        filled["max_entries"], filled["prompt_tokens"],
    )  # fmt: skip
    check_options(*values)
    return values


def fit_map(counts: FittableCounts, **options: Unpack[FitOptions]) -> ConditionalDifferenceMap:
    """The map of an `ActivationCounts`; keywords and errors are those of its `fit`.

    >>> fit_map(counts, percentile=50).shape == (counts.d_in, counts.d_out)
    True
    """
    check_type("strict", options.get("strict", False), bool, MapError)
    preset: dict[str, Any] = counts.provenance.get("defaults") or {}
    given = _with_presets(counts, options)
    percentile, k_diff, gate, sparsify, max_entries, tokens = checked(given)
    if 0 < percentile < 1:
        warn(
            f"percentile is {percentile}, on a scale from 0 to 100: pass {100 * percentile:g} if a "
            "fraction was meant"
        )
    opened = Opened(counts, percentile, gate, tokens, strict=bool(options.get("strict")))
    kept = opened.kept
    if len(kept) < FEWEST_TRIPLES:
        warn(
            f"the map is fitted on {len(kept)} triple{'s' * (len(kept) > 1)}, and with fewer than "
            f"{FEWEST_TRIPLES} its gates only repeat what fired there; fit on more (the demo fits "
            "on 250)"
        )
    mean = gate_mean(opened.gates, opened.always)
    dependence = opened.dependence()
    _warn_of_rule(dependence, preset)

    def differences(start: int, stop: int) -> SparseTable:
        return counts.differences(kept[start:stop])

    sums = DifferenceSums(opened.gates, opened.always, differences, counts.d_out)
    del opened.gates  # the sums keep a copy in another order, by latent
    sparse = sparsify_map(sums, sparsify, k_diff, max_entries)
    skipped = dict(counts.skipped)
    if len(kept) < len(counts):
        skipped["no counted prompt token"] = len(counts) - len(kept)
    fitted = ConditionalDifferenceMap(
        sparse.rows, sparse.indptr, sparse.columns, sparse.values, (counts.d_in, counts.d_out),
        tau=opened.tau, gate_mean=mean, gate=gate, percentile=percentile,
        k_diff=k_diff, sparsify=sparsify, max_entries=max_entries, threshold=sparse.threshold,
        prompt_tokens=tokens, n_triples=len(kept),
        provenance={
            **counts.provenance, "skipped": skipped, "prompt_dependence": dependence.to_dict()
        },
    )  # fmt: skip
    fitted.defaults = {**preset, **fitted.defaults}
    return fitted


def dependence_of(
    counts: FittableCounts,
    percentile: float | int | None,
    gate: Gate,
    prompt_tokens: PromptTokens | None,
) -> PromptDependence:
    """How much of the preference depends on the prompt: `ActivationCounts.prompt_dependence`."""
    asked: FitOptions = {"percentile": percentile, "gate": gate, "prompt_tokens": prompt_tokens}
    given = checked(_with_presets(counts, asked))
    return Opened(counts, given[0], given[2], given[5]).dependence()


class Opened:
    """The gates of a table's prompts; those in which no token counts are left out.

    >>> Opened(counts, 50, "active", "content").gates.shape == (len(counts), counts.d_in)
    True

    `kept` are the rows that are left; `tau`, `gates` and `always` as in `maps.gates`. Raises
    `CountsError` where none is left, or with `strict` where any is left out.
    """

    def __init__(
        self,
        counts: FittableCounts,
        percentile: float | int,
        gate: Gate,
        tokens: PromptTokens,
        strict: bool = False,
    ) -> None:
        self.counts = counts
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
        self.gates, self.always = open_gates(rho, cut, gate)

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


def _with_presets(counts: FittableCounts, options: FitOptions) -> dict[str, Any]:
    """Options, and where none was given the values of the preset that was counted with.

    Counts remember it, so that they are fitted as `DSPA.fit` does.
    """
    preset: dict[str, Any] = counts.provenance.get("defaults") or {}
    given = {name: preset[name] for name in FIT_SETTINGS if name in preset}
    asked = {name: value for name, value in options.items() if value is not None}
    return {**options, **given, **asked}


def _warn_of_rule(dependence: PromptDependence, preset: Mapping[str, Any]) -> None:
    """Warn where a preset steers by what is special to a prompt, and most is the same for all."""
    if preset.get("prompt_rule") == "centred" and dependence.enough and not dependence.depends:
        warn(
            "prompt_rule 'centred', the preset's, steers only by what depends on the prompt; that "
            f"explains {dependence.conditional:.2%} of a held-out difference here, and one "
            f"difference for all prompts {dependence.shared:.2%}: compare with prompt_rule='gated' "
            "(docs/choose.md)"
        )
