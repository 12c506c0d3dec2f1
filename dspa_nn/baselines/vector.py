"""A dense vector for the residual stream, fitted or imported, that knows its origin."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.checks import check_choice, check_finite_number
from dspa_nn.errors import SteeringError
from dspa_nn.files import on_disk, read_pair, write_pair
from dspa_nn.graph.settings import PROMPT_TOKENS

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Condition:
    """CAST's gate: which prompts are steered, by their mean hidden state at one layer.

    Attributes:
        layer: decoder block whose output is read; not above the steered one.
        vector: the condition vector c.
        threshold: of the similarity. larger: whether the gate opens above it, or below.
        tanh: whether the projection goes through tanh, as CAST's authors ran it.
        prompt_tokens: which prompt tokens are averaged over, "content" or "all".

    Raises:
        SteeringError: a threshold that is no number, or other prompt tokens.
    """

    layer: int
    vector: Float[Tensor, " d_model"] = field(repr=False)
    threshold: float
    larger: bool = True
    tanh: bool = True
    prompt_tokens: str = "content"

    def __post_init__(self) -> None:
        check_finite_number("threshold", self.threshold, SteeringError)
        check_choice("prompt_tokens", self.prompt_tokens, PROMPT_TOKENS, SteeringError)


@dataclass(frozen=True, eq=False)
class ControlVector:
    """A vector that is added to the output of one decoder block: `h <- h + scale * vector`.

    Example:
        >>> vector = ControlVector(layer=2, vector=torch.ones(32), kind="caa")
        >>> vector.save("vector")
        >>> ControlVector.load("vector").layer
        2

    Attributes:
        layer: 0-based decoder block (docs/method.md 8).
        vector: float32, in units of the residual stream.
        kind: how it came about: "caa", "repe", "cast" or "imported", or a word of your own.
        scale: what it is multiplied by where a run names nothing else.
        condition: which prompts are steered; None is every prompt.
        provenance: the model and the triples that it was fitted with; settings of the fit.

    Raises:
        SteeringError: what is no finite vector, a scale that is no finite number, or a condition
            above the steered layer.
    """

    layer: int
    vector: Float[Tensor, " d_model"] = field(repr=False)
    kind: str
    scale: float = 1.0
    condition: Condition | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __post_init__(self) -> None:
        check_finite_number("scale", self.scale, SteeringError)
        given: Any = self.vector
        if not isinstance(given, Tensor) or given.ndim != 1:
            shown = tuple(getattr(given, "shape", ())) or type(given).__name__
            raise SteeringError(f"the vector is {shown}; give a tensor of one dimension")
        for name, values in (
            ("vector", self.vector),
            ("condition", self.vector if self.condition is None else self.condition.vector),
        ):
            if values.shape != self.vector.shape or not bool(torch.isfinite(values).all()):
                raise SteeringError(
                    f"the {name} has shape {tuple(values.shape)} and must hold "
                    f"{len(self.vector)} finite numbers; fit or import it again"
                )
        if self.condition is not None and self.condition.layer > self.layer:
            raise SteeringError(
                f"the condition is read at layer {self.condition.layer} and layer {self.layer} is "
                "steered, which comes before it; read it at that layer or below"
            )

    @property
    def norm(self) -> float:
        """Its length, which is that of the change at scale 1."""
        return float(cast(Any, self.vector).norm())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vector.json` and `vector-<hash>.safetensors`, whole or not at all.

        Example:
            >>> ControlVector(layer=2, vector=torch.ones(32), kind="caa").save("vector")

        Raises:
            FileError: a full disk or a read-only folder; what was there stays.
        """
        arrays = {"vector": self.vector.detach().float().numpy()}
        about: dict[str, Any] = {
            "layer": self.layer,
            "kind": self.kind,
            "scale": float(self.scale),
            "condition": None,
            "provenance": dict(self.provenance),
        }
        if self.condition is not None:
            arrays["condition"] = self.condition.vector.detach().float().numpy()
            about["condition"] = {
                name: value for name, value in vars(self.condition).items() if name != "vector"
            }
        write_pair(folder, "vector", arrays, about, version=SCHEMA_VERSION)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "ControlVector":
        """Read a vector from a folder that `save` wrote, or from a hub repository ("owner/name").

        Example:
            >>> ControlVector(layer=2, vector=torch.ones(32), kind="caa").save("vector")
            >>> ControlVector.load("vector").kind
            'caa'

        Raises:
            FileError: files that are missing, cut short, changed or of a newer schema.
        """
        arrays, about = read_pair(on_disk(folder), "vector", version=SCHEMA_VERSION)
        condition = about["condition"]
        return cls(
            layer=about["layer"],
            vector=arrays["vector"],
            kind=about["kind"],
            scale=about["scale"],
            condition=condition and Condition(vector=arrays["condition"], **condition),
            provenance=about["provenance"],
        )
