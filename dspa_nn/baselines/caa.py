"""Difference of means (CAA): the mean of chosen less rejected hidden states, for every prompt."""

from collections.abc import Iterable
from typing import Any

from nnsight.modeling.transformers import TransformersModel

from dspa_nn.baselines.states import Activations, as_activations
from dspa_nn.baselines.subject import Subject
from dspa_nn.baselines.vector import ControlVector
from dspa_nn.steering import DSPA


def fit_caa(
    model: Subject | DSPA | TransformersModel,
    source: Activations | Iterable[Any],
    *,
    scale: float = 1.0,
    **options: Any,
) -> ControlVector:
    """Fit `v = mean over triples of (mean h of chosen - mean h of rejected)`.

    Example:
        >>> vector = fit_caa(dspa, triples[:4])
        >>> vector.layer, vector.kind
        (2, 'caa')

    Args:
        model: a `DSPA`, or an nnsight model.
        source: triples, or the `Activations` that were taken of them.
        scale: what the vector is multiplied by where a run names nothing else.
        options: the keywords of `activations`, where triples came.

    Source: docs/method.md 8.3 (Rimsky et al. 2024, arXiv 2312.06681).
    """
    taken = as_activations(model, source, **options)
    mean = taken.differences.mean(0)
    return ControlVector(taken.layer, mean.float(), "caa", scale, None, taken.provenance)
