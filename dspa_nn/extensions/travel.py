"""An extension without its checks, which is what runs: bare functions, and the tensors of a class.

A function loses its annotations, since a server has no jaxtyping to read them with, and so do the
functions that it calls. Python then finds it under no name, so that nnsight sends it as source.
"""

import types
from typing import Any, cast

from dspa_nn.extensions.source import INSTALLED, Written, unwrapped
from dspa_nn.graph.rules import Rule, carried
from dspa_nn.shipping import Reduced, noted, registered


def reduced(rule: Rule, written: Written) -> Reduced:
    """What nnsight's pickler writes in place of an extension: a `Rule` that knows no toolkit."""
    known: dict[int, types.FunctionType] = {}
    state: Any = None
    if written.owner is not None:
        noted(cast(Any, rule).state, "extensions")
        held = cast(dict[str, Any], cast(Any, rule).state.__dict__)
        methods = {name: _bare_method(one, known) for name, one in written.methods.items()}
        call = methods["__call__"]
        state = _Held(written.owner.__name__, methods, held)
    else:
        call = bare(written.call, known)
    return registered(Rule), (rule.kind, rule.name, call, rule.wants, state, rule.foreign)


class _Held:
    """Pickled, an object of a user's small class: it arrives as one with bare methods."""

    def __init__(self, name: str, methods: dict[str, Any], held: dict[str, Any]) -> None:
        held = {key: value.cpu() if hasattr(value, "cpu") else value for key, value in held.items()}
        self.parts = name, methods, held

    def __reduce__(self) -> Reduced:
        return registered(carried), self.parts


def bare(
    function: types.FunctionType, known: dict[int, types.FunctionType] | None = None
) -> types.FunctionType:
    """A function without annotations, that sees nothing but what it uses.

    >>> bare(bare).__annotations__
    {}

    known: functions that were met before, by id.
    """
    known = {} if known is None else known
    function = unwrapped(function)
    if id(function) in known:
        return known[id(function)]
    code = function.__code__
    seen: dict[str, Any] = {"__builtins__": __builtins__, "__name__": function.__module__}
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    twin = types.FunctionType(code, seen, function.__name__, function.__defaults__, cells)
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__ = function.__qualname__
    known[id(function)] = twin
    for name in _names(code):
        if name in function.__globals__:
            seen[name] = _bare_value(function.__globals__[name], known)
    for mine, theirs in zip(cells, function.__closure__ or (), strict=True):
        try:
            mine.cell_contents = _bare_value(theirs.cell_contents, known)
        except ValueError:  # never assigned
            continue
    return twin


def _bare_value(value: Any, known: dict[int, types.FunctionType]) -> Any:
    """A value that a function uses: functions that a server has are left as they are."""
    inner = getattr(value, "written", None)
    if isinstance(inner, Written):
        return bare(inner.call, known)
    function = unwrapped(value)
    if isinstance(function, types.FunctionType):
        home = str(function.__module__).partition(".")[0]
        return value if home in INSTALLED else bare(function, known)
    return value


def _bare_method(method: Any, known: dict[int, types.FunctionType]) -> Any:
    if isinstance(method, property):
        return property(bare(cast(Any, method.fget), known))
    if isinstance(method, staticmethod):
        return staticmethod(bare(cast(Any, method).__func__, known))
    return bare(method, known) if isinstance(method, types.FunctionType) else method


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names
