"""From a table of counts to its conditional-difference map: docs/method.md 3.3 and 3.4."""

from collections.abc import Mapping
from typing import Any, Unpack

from dspa_nn.checks import check_type
from dspa_nn.errors import MapError
from dspa_nn.maps.dependence import PromptDependence
from dspa_nn.maps.difference_sums import DifferenceSums
from dspa_nn.maps.fittable import FittableCounts
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.maps.options import FitOptions, check_fit
from dspa_nn.maps.prompt_gates import PromptGates, with_preset
from dspa_nn.maps.sparsify import sparsify_map
from dspa_nn.progress import warn
from dspa_nn.shapes import SparseTable

# With one or two triples a threshold is a density of theirs, and a gate says that a latent fired.
FEWEST_TRIPLES = 3


def fit_map(counts: FittableCounts, **options: Unpack[FitOptions]) -> ConditionalDifferenceMap:
    """The map of an `ActivationCounts`; keywords and errors are those of its `fit`.

    >>> fit_map(counts, percentile=50).shape == (counts.d_in, counts.d_out)
    True
    """
    check_type("strict", options.get("strict", False), bool, MapError)
    preset: dict[str, Any] = counts.provenance.get("defaults") or {}
    chosen = check_fit(with_preset(counts, options))
    if 0 < chosen.percentile < 1:
        warn(
            f"percentile is {chosen.percentile}, on a scale from 0 to 100: pass "
            f"{100 * chosen.percentile:g} if a fraction was meant"
        )
    opened = PromptGates(
        counts, chosen.percentile, chosen.gate, chosen.prompt_tokens,
        strict=bool(options.get("strict")),
    )  # fmt: skip
    kept = opened.kept
    if len(kept) < FEWEST_TRIPLES:
        warn(
            f"the map is fitted on {len(kept)} triple{'s' * (len(kept) > 1)}, and with fewer than "
            f"{FEWEST_TRIPLES} its gates only repeat what fired there; fit on more (the demo fits "
            "on 250)"
        )
    dependence = opened.dependence()
    _warn_of_rule(dependence, preset)

    def differences(start: int, stop: int) -> SparseTable:
        return counts.differences(kept[start:stop])

    sums = DifferenceSums(opened.gates, opened.always, differences, counts.d_out)
    del opened.gates  # the sums keep a copy in another order, by latent
    sparse = sparsify_map(sums, chosen.sparsify, chosen.k_diff, chosen.max_entries)
    skipped = dict(counts.skipped)
    if len(kept) < len(counts):
        skipped["no counted prompt token"] = len(counts) - len(kept)
    provenance = {
        **counts.provenance, "skipped": skipped, "prompt_dependence": dependence.to_dict()
    }  # fmt: skip
    if opened.extension is not None:
        provenance["fitted_gate"] = opened.extension
    fitted = ConditionalDifferenceMap(
        sparse.rows, sparse.indptr, sparse.columns, sparse.values, (counts.d_in, counts.d_out),
        tau=opened.tau, gate_mean=opened.mean, gate=opened.gate, percentile=chosen.percentile,
        k_diff=chosen.k_diff, sparsify=chosen.sparsify, max_entries=chosen.max_entries,
        threshold=sparse.threshold, prompt_tokens=chosen.prompt_tokens, n_triples=len(kept),
        provenance=provenance,
    )  # fmt: skip
    fitted.defaults = {**preset, **fitted.defaults}
    return fitted


def _warn_of_rule(dependence: PromptDependence, preset: Mapping[str, Any]) -> None:
    """Warn where a preset steers by what is special to a prompt, and most is the same for all."""
    if preset.get("prompt_rule") == "centred" and dependence.enough and not dependence.depends:
        warn(
            "prompt_rule 'centred', the preset's, steers only by what depends on the prompt; that "
            f"explains {dependence.conditional:.2%} of a held-out difference here, and one "
            f"difference for all prompts {dependence.shared:.2%}: compare with prompt_rule='gated' "
            "(docs/choose.md)"
        )
