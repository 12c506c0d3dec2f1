"""One global difference: DSPA's edit with one set of scores for every prompt, and no condition."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int32
from torch import Tensor

from dspa_nn.baselines.states import taken_already
from dspa_nn.checks import check_positive_int
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import SteeringError
from dspa_nn.extensions import declared
from dspa_nn.graph.settings import VOTING_SETTINGS
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions

# Output latents kept in each direction: what a search over k_diff may ask for.
KEPT = 128


def fit_global_difference(
    dspa: DSPA,
    source: ActivationCounts | Iterable[Any],
    *,
    keep: int = KEPT,
    defaults: Mapping[str, Any] | None = None,
    **options: Any,
) -> ConditionalDifferenceMap:
    """Fit the mean of drho, the same scores whatever the prompt.

    Example:
        >>> fitted = fit_global_difference(dspa, counts, keep=4)
        >>> len(fitted.rows)
        1

    Args:
        dspa: the model and its SAEs.
        source: triples, or their counts.
        keep: output latents kept in each direction, those of the largest and smallest scores.
        defaults: settings of a run; None takes the preset's, else the paper's.
        options: keywords of `DSPA.count`, where triples came.

    Returns:
        A map of one row, which holds the scores: `one_for_all` steers by it.

    Raises:
        SteeringError: `keep` below 1.

    Source: docs/method.md 8.6.
    """
    check_positive_int("keep", keep, SteeringError)
    counts = as_counts(dspa, source, **options)
    difference = np.asarray(counts.differences().sum(0)).ravel() / len(counts)
    return one_row(dspa, counts, difference, keep, "global difference", defaults)


def as_counts(
    dspa: DSPA, source: ActivationCounts | Iterable[Any], **options: Any
) -> ActivationCounts:
    """Counts as they are; triples are counted.

    >>> as_counts(dspa, counts) is counts
    True

    Raises:
        SteeringError: options for counts that are there already.
    """
    if not isinstance(source, ActivationCounts):
        return dspa.count(source, **options)
    if options:
        raise SteeringError(taken_already(options, "counts"))
    return source


def one_row(
    dspa: DSPA,
    counts: ActivationCounts,
    scores: Float64[np.ndarray, " d_out"],
    keep: int,
    baseline: str,
    defaults: Mapping[str, Any] | None,
) -> ConditionalDifferenceMap:
    """The largest and smallest scores of output latents, as a map of one row."""
    order = np.argsort(scores, kind="stable")
    kept = np.sort(np.unique(np.concatenate([order[:keep], order[::-1][:keep]])))
    kept = kept[scores[kept] != 0]
    return ConditionalDifferenceMap(
        np.array([0]),
        np.array([0, len(kept)]),
        kept,
        scores[kept],
        (counts.d_in, counts.d_out),
        provenance={**counts.provenance, "baseline": baseline},
        defaults=dspa.defaults if defaults is None else defaults,
        n_triples=len(counts),
        prompt_tokens="all",
    )


@declared("gate", name="every prompt")
def every_prompt(counts: Int32[Tensor, "batch d_in"]) -> Float64[Tensor, "batch d_in"]:
    """Let the first row of a map vote for every prompt, and no other.

    Example:
        >>> every_prompt(torch.zeros(1, 3, dtype=torch.int32))
        tensor([[1., 0., 0.]], dtype=torch.float64)
    """
    weights = torch.zeros(counts.shape, dtype=torch.float64, device=counts.device)
    weights[:, 0] = 1
    return weights


def scores_of(map: ConditionalDifferenceMap) -> Float64[Tensor, " d_out"]:
    """The scores that a map of one row holds.

    >>> scores_of(fit_global_difference(dspa, counts)).shape
    torch.Size([40])
    """
    scores = torch.zeros(map.shape[1], dtype=torch.float64)
    scores[map.columns.long()] = map.values.double()
    return scores


def one_for_all(
    name: str,
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    options: SteeringOptions | None = None,
) -> DSPAMethod:
    """A method that edits the same output latents for every prompt, as DSPA edits its own.

    Example:
        >>> method = one_for_all("global", dspa, fit_global_difference(dspa, counts))
        >>> with method.steering([prompt]) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=3)
        >>> edits.plans[0].ablate == method.dspa.plan(method.map, prompt, **method.options).ablate
        True

    Args:
        name: a few words for a table.
        dspa: the model and its SAEs.
        map: what `fit_global_difference` or `fit_static_sae` returned.
        options: keywords of `DSPA.apply`; those left out take the map's values. prompt_rule,
            k_prompt and gate are refused: they say how a prompt's latents vote, and here none does.

    Raises:
        SteeringError: one of these three, or what `DSPAMethod` refuses.
    """
    given: SteeringOptions = {**(options or {})}
    voting = [one for one in (*VOTING_SETTINGS, "gate") if given.get(one) is not None]
    if voting:
        raise SteeringError(
            f"one_for_all was given {' and '.join(voting)}, by which the latents of a prompt vote, "
            "and its scores are the same for every prompt; leave that out"
        )
    return DSPAMethod(name, dspa, map, {**given, "gate": every_prompt})
