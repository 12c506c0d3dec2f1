"""A model that a baseline steers or is fitted on, with or without SAEs."""

from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Int64
from nnsight.modeling.transformers import TransformersModel
from torch import Tensor

from dspa_nn._version import __version__
from dspa_nn.errors import SteeringError
from dspa_nn.models import Fingerprint, ModelFacts, read_facts
from dspa_nn.ndif import adopt
from dspa_nn.prompts import Rendered, is_batch, render
from dspa_nn.steering import DSPA, PromptOrPrompts
from dspa_nn.triples import Prompt


class Subject:
    """A model without SAEs, as far as a baseline needs one.

    Example:
        >>> subject = Subject(model)
        >>> subject.render("sun moon").prompt_length
        8
        >>> subject.origin(2)["adapters"]
        'none'

    Args:
        model: an nnsight `TransformersModel`, or a `DSPA`, whose model, layers and name it takes.

    Attributes:
        model: the nnsight model. facts: its layers, width and tokenizer.
        layers: the input and the output layer of the `DSPA`, or None.
    """

    def __init__(self, model: "TransformersModel | DSPA") -> None:
        self.layers: tuple[int, int] | None = None
        self.same_model_as: str | None = None
        if isinstance(model, DSPA):
            self.layers = model.input_layer, model.output_layer
            self.same_model_as = model.same_model_as
            self.model: Any = model.model
            self.facts: ModelFacts = model.facts
        else:
            self.model = model
            self.facts = read_facts(model)
            if hasattr(model, "interleaver"):
                adopt(model)
        self._fingerprint = Fingerprint()

    def __repr__(self) -> str:
        return f"Subject({self.facts.model_id})"

    def layer(self, layer: int | None, *, of: str = "output") -> int:
        """A decoder block that was given, else the `DSPA`'s input or output layer.

        >>> Subject(dspa).layer(None), Subject(model).layer(3)
        (2, 3)

        Raises:
            SteeringError: none was given and there is no `DSPA`, or there is no such block.
        """
        if layer is None and self.layers is not None:
            layer = self.layers[0 if of == "input" else 1]
        given: Any = layer  # whatever a user passed
        whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
        number = int(cast(int, given)) if whole else -1
        if not 0 <= number < self.facts.n_layers:
            raise SteeringError(
                f"layer {layer!r} came, and {self.facts.model_id} has layers 0 to "
                f"{self.facts.n_layers - 1}; give one of them"
            )
        return number

    def render(self, prompt: Prompt | Rendered, response: str | None = None) -> Rendered:
        """Text and ids that the model sees, as `DSPA.render` makes them."""
        return render(self.facts.tokenizer, prompt, response)

    def prompt_batch(
        self, prompt: PromptOrPrompts
    ) -> list[tuple[Int64[Tensor, " prompt"], Bool[Tensor, " prompt"]]]:
        """Ids of each prompt, and which are content; see `DSPA.prompt_batch`."""
        batch: Any = prompt if is_batch(prompt) else [prompt]
        rendered = [self.render(item) for item in batch]
        return [(item.prompt_ids, item.content) for item in rendered]

    def origin(self, layer: int, model: object = None) -> dict[str, Any]:
        """What identifies the model and its weights up to a decoder block, as maps note it.

        model: one of the same kind, in place of `self.model`.
        """
        if model is None:
            read = self._fingerprint.read(self.model, self.facts.blocks, layer)
        else:
            blocks = read_facts(model, self.facts.tokenizer).blocks
            read = Fingerprint().read(model, blocks, layer)
        known = {
            "model_id": self.facts.model_id,
            "model_revision": self.facts.revision,
            **read,
            "dtype": self.facts.dtype,
            "template_sha256": self.facts.template_sha256,
            "package_version": __version__,
        }
        if self.same_model_as is not None:
            known |= {"model_id": self.same_model_as, "model_revision": None, "weights": None}
            known |= {"every_weight": None, "config": None}
        return known


def as_subject(source: "Subject | DSPA | TransformersModel") -> Subject:
    """A `Subject` as it is; one is made of a `DSPA` or of a model.

    >>> as_subject(dspa).layers
    (1, 2)
    """
    return source if isinstance(source, Subject) else Subject(source)
