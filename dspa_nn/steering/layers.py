"""The two decoder blocks that SAEs read: which numbers are layers of a model."""

from numbers import Integral
from typing import Any

from dspa_nn.errors import SteeringError
from dspa_nn.models import ModelFacts


def first_known(layer: int | None, otherwise: int | None) -> int:
    """A layer that was given, else the other one, else 0.

    >>> first_known(None, 9), first_known(7, 9)
    (9, 7)
    """
    return int(otherwise or 0) if layer is None else layer


def check_layers(facts: ModelFacts, input_layer: Any, output_layer: Any) -> None:
    """Refuse layers that the model does not have or that are in the wrong order; None is unknown.

    What a user hands in comes here as it is, so that what is no number is refused in a sentence.

    >>> check_layers(dspa.facts, 1, None)

    Raises:
        SteeringError: no such layers.
    """
    given = (("input", input_layer), ("output", output_layer))
    for role, layer in given:
        if layer is not None and (type(layer) is bool or not isinstance(layer, Integral)):
            raise SteeringError(
                f"{role}_layer is {layer!r}, and must be the number of a decoder block, from 0"
            )
    last = facts.n_layers - 1
    if not 0 <= first_known(input_layer, 0) <= first_known(output_layer, last) <= last:
        came = [f"{role} layer {layer}" for role, layer in given if layer is not None]
        raise SteeringError(
            f"{' and '.join(came)} came, and {facts.model_id} has layers 0 to {last}; the "
            "input layer must not come after the output layer"
        )
