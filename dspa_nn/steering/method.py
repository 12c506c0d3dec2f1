"""Ways to steer a model, as evaluation, baselines and serving see them.

Whatever is compared with DSPA enters here: a method has a name and steers the model for as long as
a context lasts. DSPA itself is the first implementation.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from dspa_nn.errors import SteeringError
from dspa_nn.graph.portable import as_portable
from dspa_nn.graph.settings import allowed_latents, check_options
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.prompts import Rendered
from dspa_nn.shipping import Reduced, Shipped, reduce_method
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import (
    PromptLength,
    PromptOrPrompts,
    SteeringOptions,
    fill,
    run_settings,
)


@runtime_checkable
class SteeringMethod(Protocol):
    """One way to steer a model.

    A trained model or an adapter needs no more than this. An intervention on hidden states has
    `apply` as well: see `Intervention`.
    """

    @property
    def name(self) -> str:
        """A few words for a table."""
        ...

    def steering(self, prompts: Sequence[Rendered]) -> AbstractContextManager[EditLog | None]:
        """Steer the model's runs on these prompts for as long as the context lasts.

        Args:
            prompts: one for each row of the batch that is run inside, in the same order; what
                follows the prompt in them (a response) is not looked at.

        Returns:
            A context manager. It yields the edit log of the run inside, or None where a method
            has no edits to tell of.
        """
        ...


@runtime_checkable
class Intervention(SteeringMethod, Protocol):
    """A steering method that edits hidden states, also in a tracing context of the user's."""

    def apply(
        self,
        *,
        prompt: PromptOrPrompts | None = None,
        prompt_length: PromptLength | None = None,
    ) -> EditLog | None:
        """Steer the model call of the tracing context around this line, as `DSPA.apply` does.

        Args:
            prompt: what `render` returned, or a list of them for a batch.
            prompt_length: in `trace`: tokens of the prompt, BOS included, an int or one per row.
        """
        ...


@runtime_checkable
class ScaledMethod(SteeringMethod, Protocol):
    """A steering method that moves every token that it moves by the same norm, whatever it is."""

    def at_norm(self, norm: float) -> "ScaledMethod":
        """The same method at another norm."""
        ...


@dataclass(frozen=True)
class DSPAMethod(Shipped):
    """DSPA with one map and one choice of settings, as a `SteeringMethod`.

    Example:
        >>> method = DSPAMethod("tuned", dspa, map, {"alpha": 1.0})
        >>> prompt = dspa.render("Tell me about volcanoes.")
        >>> with method.steering([prompt]) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> edits.steps
        4

    Attributes:
        name: a few words for a table.
        dspa: the model and its two SAEs.
        map: what `DSPA.fit` returned.
        options: keywords of `DSPA.apply`, extensions among them; those left out take the preset's
            values, or the paper's.
    """

    name: str
    dspa: DSPA = field(repr=False)
    map: ConditionalDifferenceMap = field(repr=False)
    options: SteeringOptions = field(default_factory=SteeringOptions)

    def __post_init__(self) -> None:
        """Refuse keywords and values that `apply` would, before any run is paid for."""
        given, chosen = run_settings("DSPAMethod", self.options)
        fitted = as_portable(self.map)
        if isinstance(fitted, list):
            raise SteeringError(
                "DSPAMethod was given a plan, which is of one prompt, and steers any number of "
                "them; give it the map that the plan was made with"
            )
        check_options(fill(given, fitted.defaults, self.dspa.defaults))
        allowed_latents(chosen["only"], chosen["never"], self.dspa.output_sae.width)

    def steering(self, prompts: Sequence[Rendered]) -> AbstractContextManager[EditLog]:
        """Steer the Hugging Face model behind `dspa.model` with plain PyTorch hooks.

        Example:
            >>> method = DSPAMethod("tuned", dspa, map, {"alpha": 1.0})
            >>> with method.steering([prompt]) as edits:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=3)
            >>> edits.steps
            3

        The edits are those of `DSPA.apply`: `DSPA.attach` feeds the same code.

        Raises:
            SteeringError: settings out of range, or a model that is not loaded here.
            MapError: a map of another model or SAE.
        """
        return self.dspa.attach(self.dspa.model, self.map, prompt=list(prompts), **self.options)

    def apply(
        self,
        *,
        prompt: PromptOrPrompts | None = None,
        prompt_length: PromptLength | None = None,
    ) -> EditLog:
        """Steer the model call of the tracing context around this line: see `DSPA.apply`."""
        return self.dspa.apply(self.map, prompt=prompt, prompt_length=prompt_length, **self.options)

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_method(self.dspa, self.map, self.options)
