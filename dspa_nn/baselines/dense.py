"""A control vector as a `SteeringMethod`: with plain hooks, or in a user's own nnsight block."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from nnsight import save
from nnsight.modeling.transformers import TransformersModel
from torch import nn

from dspa_nn.baselines.log import VectorLog
from dspa_nn.baselines.subject import Subject
from dspa_nn.baselines.vector import ControlVector
from dspa_nn.checks import check_choice, check_finite_number, check_type
from dspa_nn.errors import SteeringError
from dspa_nn.graph.apply import apply
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.record import Record
from dspa_nn.graph.settings import POSITIONS
from dspa_nn.graph.vectors import PortableVector, VectorSteerer, check_vector
from dspa_nn.models import read_facts
from dspa_nn.prompts import Rendered, content_of
from dspa_nn.shipping import Reduced, Shipped, registered
from dspa_nn.steering import (
    EditLog,
    Hooks,
    Positions,
    PromptLength,
    PromptOrPrompts,
    hooked_module,
    warn_beforehand,
    warn_of,
)


@dataclass(frozen=True)
class VectorMethod(Shipped):
    """A control vector with its scale, as a `SteeringMethod` and an `Intervention`.

    Example:
        >>> method = VectorMethod("difference of means", Subject(dspa), vector, scale=2.0)
        >>> with method.steering([prompt]) as log:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> log.tokens
        4

    `h_t <- h_t + scale * vector` at the positions that DSPA steers: from the last prompt token on,
    which emits the response's first token (docs/method.md 5).

    Attributes:
        name: a few words for a table.
        subject: the model.
        vector: what a fit, or an import, returned.
        scale: what the vector is multiplied by; None takes the vector's own.
        positions: "response", or "all" for every token but BOS.
    """

    name: str
    subject: Subject = field(repr=False)
    vector: ControlVector
    scale: float | None = None
    positions: Positions = "response"

    def __post_init__(self) -> None:
        check_type("vector", self.vector, ControlVector, SteeringError)
        check_choice("positions", self.positions, POSITIONS, SteeringError)
        check_finite_number("scale", self.strength, SteeringError)
        self.subject.layer(self.vector.layer)
        if self.vector.condition is not None:
            self.subject.layer(self.vector.condition.layer)
        width, wanted = len(self.vector.vector), self.subject.facts.d_model
        if width != wanted:
            raise SteeringError(
                f"the vector has {width} numbers, and the residual stream of "
                f"{self.subject.facts.model_id} is {wanted} wide; use a vector of this model"
            )
        if abs(self.strength) * self.vector.norm > torch.finfo(torch.float32).max:
            raise SteeringError(
                f"scale is {self.strength}, at which a vector of norm {self.vector.norm:.3g} is no "
                "longer finite; give a smaller one"
            )

    @property
    def strength(self) -> float:
        """The scale in force."""
        return self.vector.scale if self.scale is None else self.scale

    def at(self, scale: float) -> "VectorMethod":
        """The same method at another scale.

        >>> method = VectorMethod("difference of means", Subject(dspa), vector)
        >>> method.at(0.5).strength
        0.5
        """
        return replace(self, scale=scale)

    def at_norm(self, norm: float) -> "VectorMethod":
        """The same method at the scale that moves every token that it moves by this norm.

        >>> method = VectorMethod("difference of means", Subject(dspa), vector)
        >>> round(method.at_norm(3.0).strength * vector.norm, 4)
        3.0

        Raises:
            SteeringError: the vector is 0, or the norm is no finite number.
        """
        check_finite_number("norm", norm, SteeringError)
        if not self.vector.norm:
            raise SteeringError(
                f"the vector of {self.name} is 0, which no scale brings to a norm of {norm}; fit "
                "it on triples whose responses differ"
            )
        return self.at(norm / self.vector.norm)

    def steering(self, prompts: Sequence[Rendered]) -> "VectorAttachment":
        """Steer the Hugging Face model behind `subject.model` with plain PyTorch hooks.

        Raises:
            SteeringError: a vector of another model, or a model that is not loaded here.
        """
        return self.attach(self.subject.model, prompt=list(prompts))

    def attach(
        self,
        hf_model: nn.Module | TransformersModel,
        *,
        prompt: PromptOrPrompts | None = None,
        prompt_length: PromptLength | None = None,
    ) -> "VectorAttachment":
        """Steer a model of the same kind for as long as the context lasts, as `DSPA.attach` does.

        Example:
            >>> method = VectorMethod("difference of means", Subject(dspa), vector)
            >>> with method.attach(hf_model) as log:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=3)
            >>> log.steps
            3

        Raises:
            SteeringError: a vector of another model, or a model that is not loaded here.
        """
        check_outside_blocks("attach")
        module = hooked_module(hf_model)
        check_vector(
            self.vector.provenance,
            self.subject.origin(self.vector.layer, module),
            "it is used with",
        )
        return VectorAttachment(self, module, {"prompt": prompt, "prompt_length": prompt_length})

    def apply(
        self,
        *,
        prompt: PromptOrPrompts | None = None,
        prompt_length: PromptLength | None = None,
    ) -> VectorLog:
        """Steer the model call of the tracing context around this line, as `DSPA.apply` does.

        Example:
            >>> method = VectorMethod("difference of means", Subject(dspa), vector)
            >>> with model.generate(prompt.ids, max_new_tokens=3):
            ...     log = method.apply(prompt=prompt)
            >>> log.moved
            3

        Args:
            prompt: what `render` returned, or a list of them for a batch.
            prompt_length: in `trace`: tokens of the prompt, BOS included, an int or one per row.

        Raises:
            SteeringError: a vector of another model, or what `DSPA.apply` refuses.
        """
        origin = self.subject.origin(self.vector.layer)
        check_vector(self.vector.provenance, origin, "it is used with")
        paths, steerer = self.portable().paths, self.steerer()
        prompts = None if prompt is None else self.subject.prompt_batch(prompt)
        record = apply(steerer, paths, prompts, prompt_length, ended)
        warn_beforehand(record)
        return save(VectorLog(record, self.subject.facts.tokenizer))

    def steerer(self) -> VectorSteerer:
        """What one run here needs."""
        steerer = self.portable().steerer()
        steerer.content_of = partial(content_of, self.subject.facts.tokenizer)
        return steerer

    def portable(self) -> PortableVector:
        """What travels to NDIF in its place: the vector and the code of `graph/`."""
        facts, condition = self.subject.facts, self.vector.condition
        read = self.vector.layer if condition is None else condition.layer
        options = {
            "positions": self.positions,
            "prompt_tokens": "all" if condition is None else condition.prompt_tokens,
            "bos_id": facts.bos_id,
            "markup_ids": facts.special_ids,
            "scale": self.strength,
            "origin": dict(self.vector.provenance),
            "fitted": "condition",
        }
        return PortableVector(
            (facts.block(read), facts.block(self.vector.layer)),
            self.vector.vector,
            self.strength,
            condition and vars(condition),
            options,
            {**self.vector.provenance},
        )

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return registered(PortableVector), tuple(vars(self.portable()).values())


class VectorAttachment(Hooks, VectorLog):
    """Hooks that add a vector. It is the log of the last run under them, and holds those before.

    Attributes:
        logs: a `VectorLog` of each of the last 64 runs, oldest first.
        runs: how many runs there were.
    """

    def __init__(self, method: VectorMethod, model: Any, given: dict[str, Any]) -> None:
        facts = read_facts(model, method.subject.facts.tokenizer)
        condition = method.vector.condition
        layers = (
            method.vector.layer if condition is None else condition.layer,
            method.vector.layer,
        )
        steerer = method.steerer()
        VectorLog.__init__(self, Record(steerer.options), method.subject.facts.tokenizer)
        paths = [facts.block(layer) for layer in layers]
        Hooks.__init__(self, model, paths, steerer, method.subject.prompt_batch, given)

    def __enter__(self) -> "VectorAttachment":
        self._hook()
        return self

    def _log_of(self, record: Record) -> EditLog:
        return VectorLog(record, self._tokenizer)

    def _ended(self, record: Record) -> None:
        ended(record)

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF: the last run's log."""
        return VectorLog(self._record).as_shipped()

    def __reduce__(self) -> tuple[Any, ...]:
        return VectorLog, (self._record,)  # hooks stay on their model


def ended(record: Record) -> None:
    """Warn of a run that was not steered, or not throughout, or too far."""
    warn_of(VectorLog(record), record)
