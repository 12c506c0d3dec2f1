"""How a `DSPA` is copied and pickled for its user: with its model, and without hooks on it.

What stands in for it on the way to NDIF is another matter: `dspa_nn/shipping.py`.
"""

from collections import OrderedDict
from copy import copy, deepcopy
from typing import Any, cast

from dspa_nn.errors import SteeringError
from dspa_nn.graph.adapter import own_attributes
from dspa_nn.imports import untyped
from dspa_nn.models import torch_module
from dspa_nn.ndif import adopt

# Where hooks come from that are local functions, and that are put back when they are needed.
_PASSING = ("transformers.", "nnsight.", "dspa_nn.")


class _Bare:
    """What is pickled in place of a module: without what transformers, nnsight and `attach` hook.

    It arrives as the module. known: those of the modules that were met before, by id.
    """

    def __init__(self, module: Any, known: dict[int, "_Bare"]) -> None:
        known[id(module)] = self
        self.module = module
        self.children = OrderedDict(
            (name, child if child is None else known.get(id(child)) or _Bare(child, known))
            for name, child in module._modules.items()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        state = own_attributes(self.module)
        state["_modules"] = self.children
        # By it transformers knows that its hooks are there.
        state.pop("_output_capturing_hooks_installed", None)
        if getattr(getattr(state.get("generate"), "__self__", None), "steers", False):
            del state["generate"]
        for name, hooks in state.items():
            if name.endswith("_hooks"):
                kept = ((key, hook) for key, hook in hooks.items() if not _passes(hook))
                state[name] = OrderedDict(kept)
        return empty, (type(self.module),), state


def _passes(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith(_PASSING)


def empty(kind: Any) -> Any:
    """An object of a class, before its state is set.

    Example:
        >>> type(empty(DSPA)) is DSPA
        True
    """
    return kind.__new__(kind)


def rebuilt(kind: Any, state: dict[str, Any]) -> Any:
    """The `DSPA` of a class and its state, whose model is a torch module, with one of nnsight's.

    Example:
        >>> twin = rebuilt(DSPA, {**vars(dspa), "model": hf_model})
        >>> twin.paths == dspa.paths
        True
    """
    nnsight_model: Any = untyped("nnsight.modeling.transformers").TransformersModel
    tokenizer = state["facts"].tokenizer
    model = nnsight_model(state["model"], task="text-generation", tokenizer=tokenizer)
    dspa = empty(kind)
    dspa.__dict__.update({**state, "model": model})
    adopt(model)
    return dspa


class Copied:
    """Base of `DSPA`: a copy of it is one, and steers the same model; a pickled one has its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        state = vars(self)
        module = torch_module(state["model"])
        if any(parameter.is_meta for parameter in module.parameters()):
            raise SteeringError(
                f"the model {state['facts'].model_id} is not loaded, and a DSPA is pickled with "
                "its weights; build the DSPA anew in the other process"
            )
        return rebuilt, (type(self), {**state, "model": _Bare(module, {})})

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
