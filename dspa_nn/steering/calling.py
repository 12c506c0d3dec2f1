"""What `attach` must know of the calls of a model: whose turn it is, how and with what."""

import inspect
import threading
from collections.abc import Sequence
from typing import Any, cast

from dspa_nn.graph.adapters import active_in, adapted_layers, strengths
from dspa_nn.graph.steer import Steering


class CallState(threading.local):
    """What one thread's calls of the model are at: several threads may run one model at once.

    Attributes:
        run: the run under way, or None.
        generating: whether that is `generate`.
        chosen: prompt and prompt_length, where this thread has set them.
    """

    def __init__(self) -> None:
        self.run: Steering | None = None
        self.generating = False
        self.chosen: dict[str, Any] = {}


def by_name(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a method of a class by their names, however they were given.

    Example:
        >>> by_name(type(hf_model).generate, (1, 2), {"max_new_tokens": 3})
        {'inputs': 1, 'generation_config': 2, 'max_new_tokens': 3}
    """
    names = list(inspect.signature(function).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def ways_of_calling(module: Any, paths: Sequence[str]) -> list[Any]:
    """What is called, from a model down to its layers: it changes where a part is compiled.

    Example:
        >>> before = ways_of_calling(hf_model, ["model.layers.1"])
        >>> before == ways_of_calling(hf_model, ["model.layers.1"])
        True

    Cheap enough for every run: whether a part is compiled need be asked only where this differs.
    """
    found: list[Any] = []
    for path in paths:
        part: Any = module
        for name in ("", *path.split(".")):
            part = part._modules.get(name) if name else part
            if part is None:
                break
            own = cast(dict[str, Any], part.__dict__)
            kind = cast(Any, type(part))
            found += [
                part,
                own.get("_compiled_call_impl"),
                own.get("forward"),
                kind.forward,
            ]
    return found


class Adapters:
    """The adapters of PEFT in a model, and which of them are on.

    Example:
        >>> Adapters(hf_model).state()
        []
    """

    def __init__(self, module: Any) -> None:
        self._layers: list[Any] = adapted_layers(module)

    def state(self) -> list[Any]:
        """The active adapters of each adapted layer, and how strong each is."""
        return [
            (active_in(layer), scaling)
            for layer, scaling in zip(self._layers, strengths(self._layers), strict=True)
        ]
