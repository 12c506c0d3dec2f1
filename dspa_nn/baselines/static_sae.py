"""Static-SAE: one set of output latents for every prompt, edited as DSPA edits, at scale 0.5."""

from collections.abc import Iterable
from typing import Any

from dspa_nn.baselines.global_difference import KEPT, fit_global_difference
from dspa_nn.counts import ActivationCounts
from dspa_nn.graph.settings import check_options
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import DSPA, Mode

# arXiv 2603.21461.
SCALE, K_DIFF = 0.5, 16


def fit_static_sae(
    dspa: DSPA,
    source: ActivationCounts | Iterable[Any],
    *,
    scale: float = SCALE,
    k_diff: int = K_DIFF,
    mode: Mode = "ablate",
    keep: int = KEPT,
    **options: Any,
) -> ConditionalDifferenceMap:
    """Fit one set of output latents from the mean of drho, with Static-SAE's settings.

    Example:
        >>> fit_static_sae(dspa, counts).defaults
        {'alpha': 0.5, 'k_diff': 16, 'mode': 'ablate'}

    Args:
        dspa: the model and its SAEs.
        source: triples, or their counts.
        scale: alpha of the edit, docs/method.md 4.3.
        k_diff: output latents in each direction.
        mode: "ablate", "augment" or "both".
        keep: output latents whose scores are kept in each direction, at least k_diff.
        options: keywords of `DSPA.count`, where triples came.

    Raises:
        SteeringError: settings out of range.

    Source: docs/method.md 8.5. Which statistic ranks the latents is left open there.
    """
    defaults = {"alpha": scale, "k_diff": k_diff, "mode": mode}
    check_options(defaults, tuple(defaults))
    fitted = fit_global_difference(
        dspa, source, keep=max(keep, k_diff), defaults=defaults, **options
    )
    fitted.provenance["baseline"] = "static-sae"
    return fitted
