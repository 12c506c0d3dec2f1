"""How an extension is written: a function or a small class, and the types of its arguments."""

import inspect
import types
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from dspa_nn.errors import ExtensionError
from dspa_nn.extensions.points import Point, axis_names, shaped, written
from dspa_nn.graph.spelling import did_you_mean

# What an NDIF server has, and code that is sent there may use.
INSTALLED = (
    "builtins", "torch", "math", "typing", "collections", "operator", "enum", "numpy",
)  # fmt: skip
# What a class may hold as its own, and a function read from outside: it cannot change.
CONSTANTS = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)


class Written(NamedTuple):
    """An extension as it was written.

    Attributes:
        kind: "gate", "score", "select" or "edit".
        name: what it is called.
        call: the bare function, without wrappers of type checkers.
        methods: of a class, every method that travels, `__call__` among them; of a function, none.
        owner: the class, or None.
    """

    kind: str
    name: str
    call: Any  # a function: as an attribute a type checker takes it for a method
    methods: dict[str, Any]
    owner: type | None

    @property
    def where(self) -> str:
        """The file and the line of its first line."""
        return place(self.call, self.call.__code__.co_firstlineno)


def place(function: types.FunctionType, line: int | None) -> str:
    """A line of a function's file, as errors name it.

    >>> from pathlib import Path
    >>> Path(place(unwrapped(place), 12)).name
    'source.py:12'
    """
    file = function.__code__.co_filename
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        file = str(path.relative_to(Path.cwd()))
    return f"{file}:{line or '?'}"


def as_written(kind: str, subject: Any, name: str | None) -> Written:
    """Take a function or a small class apart, or refuse what is neither.

    >>> as_written("gate", place, None).name
    'place'
    """
    if isinstance(subject, type):
        owner: type[Any] = cast(Any, subject)
        if issubclass(owner, nn.Module):
            raise ExtensionError(
                f"{owner.__name__} is a module of torch, and an extension is a function or a "
                "plain class; keep its tensors in a plain class"
            )
        methods = _methods_of(owner)
        call = methods.get("__call__")
        if not isinstance(call, types.FunctionType):
            raise ExtensionError(
                f"the class {owner.__name__} has no __call__; an extension is a function, or a "
                "class whose objects are called"
            )
        return Written(kind, name or owner.__name__, call, methods, owner)
    bare = unwrapped(subject)
    if not isinstance(bare, types.FunctionType):
        raise ExtensionError(
            f"an extension came as a {type(subject).__name__}, and must be a function or a class "
            "that is written in Python"
        )
    return Written(kind, name or bare.__name__, bare, {}, None)


def unwrapped(subject: Any) -> Any:
    """The function inside jaxtyping's, beartype's and other wrappers.

    >>> unwrapped(unwrapped).__name__
    'unwrapped'
    """
    return inspect.unwrap(subject) if callable(subject) else subject


def _methods_of(kind: type[Any]) -> dict[str, Any]:
    """The methods that are needed to call an object of a class; its constructor is not."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        for name, value in vars(base).items():
            if isinstance(value, types.FunctionType):
                if name == "__call__" or not name.startswith("__"):
                    found[name] = unwrapped(value)
            elif isinstance(value, (staticmethod, property)) or (
                isinstance(value, CONSTANTS) and not name.startswith("__")
            ):
                found[name] = value
    return found


# Types


def check_types(written_: Written, point: Point) -> list[str]:
    """Refuse arguments without a type, or that the point does not give; return their names."""
    call = written_.call
    try:
        hints = inspect.get_annotations(call, eval_str=True)
    except Exception as error:
        raise mistake(
            written_,
            f"has an annotation that cannot be read ({type(error).__name__}: {error}); names in "
            "annotations must be defined in its module",
        ) from error
    parameters = list(inspect.signature(call).parameters.values())
    if written_.owner is not None:
        parameters = parameters[1:]
    wants: list[str] = []
    for parameter in parameters:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise mistake(
                written_, f"takes *{name}, and is given what it asks for by name; name each"
            )
        if name not in point.takes and parameter.default is not parameter.empty:
            continue
        if name not in point.takes:
            near = did_you_mean(name, tuple(point.takes))
            raise mistake(
                written_, f"asks for {name}{near}, and may ask for {', '.join(point.takes)}"
            )
        if name not in hints:
            raise mistake(
                written_,
                f"has no type for its argument {name}; write {name}: {written(point.takes[name])}",
            )
        _check_hint(written_, name, hints[name], point.takes[name])
        wants.append(name)
    if "return" not in hints:
        raise mistake(written_, f"has no type for what it returns; write -> {returned(point)}")
    return wants


def returned(point: Point) -> str:
    """What a rule of a point returns, as an annotation."""
    each = ", ".join(map(written, point.returns))
    return each if len(point.returns) == 1 else f"tuple[{each}]"


def _check_hint(written_: Written, name: str, hint: Any, wanted: Any) -> None:
    """Refuse a tensor without axes, or with the point's axes in another order."""
    if hint is Tensor:
        raise mistake(
            written_,
            f"has a bare Tensor for its argument {name}; write its axes: {written(wanted)}",
        )
    plain = (int, str)
    if wanted in plain and isinstance(hint, type) and not issubclass(wanted, hint):
        raise mistake(
            written_,
            f"annotates {name} as {written(hint)}, and is given {written(wanted)}",
        )
    if not (shaped(hint) and shaped(wanted)):
        return
    mine, theirs = axis_names(hint), axis_names(wanted)
    if mine != theirs and sorted(mine) == sorted(theirs):
        raise mistake(
            written_,
            f"annotates {name} as {written(hint)}, and is given {written(wanted)}: the axes are "
            "in another order",
        )


def mistake(
    written_: Written, text: str, line: int | None = None, function: Any = None
) -> ExtensionError:
    """The error for a mistake in an extension, with the line in its file.

    line: None for the extension's first. function: the one that the line is of, if another.
    """
    own: types.FunctionType = function or written_.call
    where = place(own, line or own.__code__.co_firstlineno)
    return ExtensionError(f"{written_.kind} {written_.name} {text} ({where})")
