"""Nothing: the model as it is, which every comparison starts from."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from dspa_nn.prompts import Rendered
from dspa_nn.steering import EditLog, PromptLength, PromptOrPrompts


@dataclass(frozen=True)
class Unsteered:
    """The unsteered model, as a `SteeringMethod`.

    Example:
        >>> with Unsteered().steering([prompt]) as log:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=3)
        >>> log is None
        True
    """

    name: str = "unsteered"

    def steering(self, prompts: Sequence[Rendered]) -> AbstractContextManager[EditLog | None]:
        """A context in which the model is left alone."""
        return nullcontext()

    def apply(
        self,
        *,
        prompt: PromptOrPrompts | None = None,
        prompt_length: PromptLength | None = None,
    ) -> EditLog | None:
        """Leave the model call of the tracing context alone."""
        return None
