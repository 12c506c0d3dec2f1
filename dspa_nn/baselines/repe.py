"""RepE: a control direction from the leading directions in which chosen and rejected differ."""

from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float64
from nnsight.modeling.transformers import TransformersModel
from torch import Tensor

from dspa_nn.baselines.states import Activations, as_activations
from dspa_nn.baselines.subject import Subject
from dspa_nn.baselines.vector import ControlVector
from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.errors import SteeringError
from dspa_nn.steering import DSPA

# arXiv 2603.21461.
DIRECTIONS, SCALE = 16, 0.5
Weights = Literal["projection", "signs"]


def fit_repe(
    model: Subject | DSPA | TransformersModel,
    source: Activations | Iterable[Any],
    *,
    directions: int = DIRECTIONS,
    weights: Weights = "projection",
    scale: float = SCALE,
    **options: Any,
) -> ControlVector:
    """Fit a control direction from the leading principal directions of chosen less rejected.

    Example:
        >>> fit_repe(dspa, triples[:6], directions=2).scale
        0.5

    With differences d_k and their leading directions u_c about zero, "projection" is the mean
    difference within their span, `sum_c (mean_k d_k . u_c) u_c`; "signs" is the sum of the unit
    directions, each turned so that most triples' differences point along it.

    Args:
        model: a `DSPA`, or an nnsight model.
        source: triples, or the `Activations` that were taken of them.
        directions: how many; no more are taken than there are triples or dimensions.
        weights: how they are added up, which the paper leaves open.
        scale: what the vector is multiplied by where a run names nothing else.
        options: the keywords of `activations`, where triples came.

    Raises:
        SteeringError: settings out of range.

    Source: docs/method.md 8.2 (Zou et al. 2023, arXiv 2310.01405).
    """
    check_positive_int("directions", directions, SteeringError)
    check_choice("weights", weights, ("projection", "signs"), SteeringError)
    taken = as_activations(model, source, **options)
    differences = taken.differences
    leading = leading_directions(differences, directions)
    along = differences @ leading.T
    amounts = along.mean(0) if weights == "projection" else majority(along)
    vector = amounts @ leading
    noted = {"directions": len(leading), "weights": weights}
    return ControlVector(taken.layer, vector.float(), "repe", scale, None, taken.provenance | noted)


def leading_directions(
    differences: Float64[Tensor, "n d_model"], number: int
) -> Float64[Tensor, "directions d_model"]:
    """Unit directions of the largest second moment about zero, the largest first.

    Example:
        >>> leading_directions(torch.tensor([[3.0, 0.0], [0.0, 1.0]]).double(), 1).abs()
        tensor([[1., 0.]], dtype=torch.float64)

    RepE shuffles the order within each pair, so that its differences have mean 0: what it takes
    is, in the mean over shuffles, this. The sign of a direction is arbitrary.
    """
    number = min(number, *differences.shape)
    # Ascending; torch declares no types here.
    values, vectors = cast(Any, torch).linalg.eigh(differences.T @ differences)
    return vectors.T.flip(0)[:number][values.flip(0)[:number] > 0]


def majority(along: Float64[Tensor, "n directions"]) -> Float64[Tensor, " directions"]:
    """The sign of most entries of each column; of their mean where there are as many of either.

    >>> majority(torch.tensor([[1.0], [2.0], [-9.0]]).double())
    tensor([1.], dtype=torch.float64)
    """
    votes = torch.sign(along).sum(0)
    signs = torch.sign(torch.where(votes == 0, along.mean(0), votes))
    return torch.where(signs == 0, 1.0, signs)
