"""How a `DSPA` is pickled for another process of its user's: with its model, and without hooks.

What stands in for it on the way to NDIF is another matter: `dspa_nn/shipping.py`.
"""

import io
import pickle
from collections import OrderedDict
from copy import copy, deepcopy
from typing import Any, cast

from torch import nn

from dspa_nn.errors import SteeringError
from dspa_nn.graph.adapter import own_attributes
from dspa_nn.imports import untyped
from dspa_nn.models import torch_module
from dspa_nn.ndif import adopt

# Where hooks come from that are local functions, and that are put back when they are needed.
_PASSING = ("transformers.", "nnsight.", "dspa_nn.")


class _Pickler(pickle.Pickler):
    """Leaves out of every module the hooks that transformers, nnsight and `attach` put there."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce a module to its class and what it holds itself."""
        if not isinstance(obj, nn.Module):
            return NotImplemented
        state = own_attributes(obj)
        # By it transformers knows that its hooks are there.
        state.pop("_output_capturing_hooks_installed", None)
        if getattr(getattr(state.get("generate"), "__self__", None), "steers", False):
            del state["generate"]
        for name, hooks in state.items():
            if name.endswith("_hooks"):
                state[name] = OrderedDict(
                    (key, hook) for key, hook in hooks.items() if not _passes(hook)
                )
        return empty, (type(obj),), state


def _passes(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith(_PASSING)


def empty(kind: Any) -> Any:
    """An object of a class, before its state is set."""
    return kind.__new__(kind)


def to_bytes(dspa: Any) -> bytes:
    """The state of a `DSPA`, its model as the torch module and the tokenizer.

    Raises:
        SteeringError: the model is not loaded, or it cannot be pickled.
    """
    module = torch_module(dspa.model)
    if any(parameter.is_meta for parameter in module.parameters()):
        raise SteeringError(
            f"the model {dspa.facts.model_id} is not loaded, and a DSPA is pickled with its "
            "weights; build the DSPA anew in the other process"
        )
    written = io.BytesIO()
    try:
        _Pickler(written).dump((type(dspa), {**vars(dspa), "model": module}))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SteeringError(
            f"the model {dspa.facts.model_id} cannot be pickled ({str(error).rstrip('.')}); build "
            "the DSPA anew in the other process"
        ) from error
    return written.getvalue()


def from_bytes(data: bytes) -> Any:
    """The `DSPA` that `to_bytes` was given, with a model of its own."""
    kind, state = pickle.loads(data)  # noqa: S301 - what the user's own pickle holds
    nnsight_model: Any = untyped("nnsight.modeling.transformers").TransformersModel
    tokenizer = state["facts"].tokenizer
    state["model"] = nnsight_model(state["model"], task="text-generation", tokenizer=tokenizer)
    dspa = empty(kind)
    dspa.__dict__.update(state)
    adopt(dspa.model)
    return dspa


class Copied:
    """Base of `DSPA`: a copy of it is one, and steers the same model; a pickled one has its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return from_bytes, (to_bytes(self),)

    def __copy__(self) -> "Copied":
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Copied":
        # A deep copy of an nnsight model cannot be traced.
        model: Any = cast(Any, self).model
        memo[id(model)] = model
        twin = copy(self)
        vars(twin).update(deepcopy(vars(self), memo))
        return twin
