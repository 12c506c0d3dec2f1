"""CAST's similarity gate on a difference of means: a vector for the prompts that ask for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from nnsight.modeling.transformers import TransformersModel
from torch import Tensor

from dspa_nn.baselines.repe import leading_directions
from dspa_nn.baselines.states import Activations, as_activations
from dspa_nn.baselines.subject import Subject
from dspa_nn.baselines.vector import Condition, ControlVector
from dspa_nn.errors import SteeringError
from dspa_nn.graph.vectors import opens, similarity
from dspa_nn.steering import DSPA


def fit_cast(
    model: Subject | DSPA | TransformersModel,
    source: Activations | Iterable[Any],
    *,
    labels: Sequence[bool] | Bool[Tensor, " n"] | None = None,
    tanh: bool = True,
    scale: float = 1.0,
    **options: Any,
) -> ControlVector:
    """Fit a difference of means and the condition under which it is added.

    Example:
        >>> vector = fit_cast(dspa, triples[:6])
        >>> vector.condition.layer, vector.condition.tanh
        (1, True)

    The vector is the mean difference of the triples that are labelled. The condition is the first
    principal direction of the two sets of prompts about the mean of their means; threshold and
    direction of the comparison are those of the best F1 over the fitting prompts.

    Args:
        model: a `DSPA`, or an nnsight model.
        source: triples, or the `Activations` that were taken of them.
        labels: which triples' prompts are to be steered. Preference triples have no such labels:
            None takes those whose difference points along the mean of all others'.
        tanh: as CAST's authors ran it, `sim(h, tanh(proj_c h))`; False is `sim(h, proj_c h)`.
        scale: what the vector is multiplied by where a run names nothing else.
        options: the keywords of `activations`, where triples came.

    Raises:
        SteeringError: labels of another number of triples, or all alike.

    Source: docs/method.md 8.4 (Lee et al. 2025, arXiv 2409.05907).
    """
    taken = as_activations(model, source, **options)
    differences, prompts = taken.differences, taken.prompts
    labelled = agreeing(differences) if labels is None else as_labels(labels)
    if len(labelled) != len(taken) or not 0 < int(labelled.sum()) < len(taken):
        raise SteeringError(
            f"{int(labelled.sum())} of {len(labelled)} labels are true, for {len(taken)} triples; "
            "CAST tells prompts of two kinds apart, so label each triple, some of either kind"
        )
    centre = (prompts[labelled].mean(0) + prompts[~labelled].mean(0)) / 2
    direction = leading_directions(prompts - centre, 1)[0]
    gate = best_gate(similarity(prompts, direction, tanh), labelled)
    condition = Condition(
        taken.condition_layer, direction.float(), gate.threshold, gate.larger, tanh
    )
    noted = {
        "labels": "agreement" if labels is None else "given",
        "labelled": int(labelled.sum()),
        "f1": gate.f1,
    }
    vector = differences[labelled].mean(0).float()
    return ControlVector(taken.layer, vector, "cast", scale, condition, taken.provenance | noted)


def as_labels(labels: Any) -> Bool[Tensor, " n"]:
    """Labels as a row of booleans; what is neither true or false, nor 1 or 0, is refused.

    >>> as_labels([True, False])
    tensor([ True, False])
    """
    try:
        given = np.asarray(labels)
    except ValueError:  # rows of different lengths
        given = np.array(None)
    if given.ndim != 1 or given.dtype.kind not in "biuf" or not np.isin(given, (0, 1)).all():
        raise SteeringError(
            f"labels are {labels!r:.60}; give one for each triple, True where its prompt is to be "
            "steered, else False"
        )
    return torch.as_tensor(given).bool()


def agreeing(differences: Float64[Tensor, "n d_model"]) -> Bool[Tensor, " n"]:
    """Which differences point along the mean of all others.

    >>> agreeing(torch.tensor([[2.0], [3.0], [-1.0]]).double())
    tensor([ True,  True, False])
    """
    others = differences.sum(0) - differences
    return (differences * others).sum(-1) > 0


@dataclass(frozen=True)
class Gate:
    """A threshold of the similarity, whether the gate opens above it, and its F1."""

    threshold: float
    larger: bool
    f1: float


def best_gate(alike: Float64[Tensor, " n"], labelled: Bool[Tensor, " n"]) -> Gate:
    """The threshold and direction of the best F1, by trying every threshold between two prompts.

    Example:
        >>> best_gate(torch.tensor([0.0, 0.25, 0.75]).double(), torch.tensor([False, False, True]))
        Gate(threshold=0.5, larger=True, f1=1.0)

    Of equal ones the first is taken: "above" before "below", lower thresholds first.
    """
    values = sorted({float(value) for value in alike})
    between = [(low + high) / 2 for low, high in pairwise(values)]
    candidates = [values[0] - 1.0, *between, values[-1] + 1.0]
    gates = [
        Gate(threshold, larger, f1_of(opens(alike, threshold, larger), labelled))
        for larger in (True, False)
        for threshold in candidates
    ]
    return max(gates, key=lambda gate: gate.f1)


def f1_of(opened: Bool[Tensor, " n"], labelled: Bool[Tensor, " n"]) -> float:
    """Harmonic mean of precision and recall; 0 where nothing is right.

    >>> f1_of(torch.tensor([True, True]), torch.tensor([True, False]))
    0.6666666666666666
    """
    right = int((opened & labelled).sum())
    return 2 * right / max(int(opened.sum()) + int(labelled.sum()), 1)
