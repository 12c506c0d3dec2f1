"""Whether an extension keeps state, or uses what cannot be sent to a server: read off its code."""

import ast
import dis
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn

from dspa_nn.extensions.source import CONSTANTS, INSTALLED, Written, mistake, unwrapped


def check_travels(written_: Written) -> None:
    """Refuse code that keeps state, or that uses what cannot be sent to a server."""
    functions = [written_.call]
    for method in written_.methods.values():
        functions += _functions_in(method)
    seen: set[int] = set()
    for function in functions:
        _check_function(written_, function, seen)
    if written_.owner is not None:
        _check_class(written_, functions)
        for function in functions:
            line = _sets_itself(function)
            if line is not None:
                raise mistake(
                    written_,
                    "changes its own attributes when it is called, and calls may come in any "
                    "order and number; compute what is needed from the arguments",
                    line,
                    function,
                )


def _check_class(written_: Written, functions: list[types.FunctionType]) -> None:
    """Refuse what methods use of their class and does not travel, and a class with slots."""
    owner: Any = written_.owner
    if not owner.__dictoffset__:
        raise mistake(
            written_, "has __slots__, and is sent by the attributes in __dict__; leave slots out"
        )
    used = {
        name for one in functions for code in _codes(one.__code__) for name in code.co_names
    }  # fmt: skip
    for base in owner.__mro__[:-1]:
        own: dict[str, Any] = {**vars(cast(type, base))}
        for name in sorted(used & own.keys()):
            value = own[name]
            method = isinstance(value, (types.FunctionType, staticmethod, property))
            if not (method or _is_constant(value) or name.startswith("__")):
                raise mistake(
                    written_,
                    f"uses {name}, a {type(value).__name__} of its class, which does not travel; "
                    f"set self.{name} in the constructor, or write a method",
                )


def _functions_in(method: Any) -> list[types.FunctionType]:
    """The functions of a method, a property or a static method."""
    if isinstance(method, property):
        parts = [method.fget]
    elif isinstance(method, staticmethod):
        parts = [cast(Any, method).__func__]
    else:
        parts = [method]
    bare = [unwrapped(part) for part in parts]
    return [part for part in bare if isinstance(part, types.FunctionType)]


def _check_function(written_: Written, function: types.FunctionType, seen: set[int]) -> None:
    """Look through one function and the functions that it calls."""
    if id(function) in seen:
        return
    seen.add(id(function))
    free = function.__code__.co_freevars
    if "__class__" in free:
        raise mistake(
            written_,
            "calls super(), which is not found on a server; call the base class by its name",
            None,
            function,
        )
    for line, what, name in _stores(function.__code__):
        raise mistake(
            written_,
            f"assigns the {what} {name}, and may keep no state from call to call; return what "
            "is computed, or hold constants in a small class",
            line,
            function,
        )
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            _check_value(
                written_, function, parameter.name, parameter.default, "has the default", None, seen
            )
    for line, name in _imports(function.__code__):
        if name.partition(".")[0] not in INSTALLED:
            raise mistake(
                written_, f"imports {name}, and a server has no {name}; use "
                f"{', '.join(INSTALLED[1:])} alone", line, function,
            )  # fmt: skip
    cells = dict(zip(free, function.__closure__ or (), strict=True))
    for name, cell in cells.items():
        try:
            value = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
        _check_value(written_, function, name, value, "closes over", None, seen)
    for line, name in _loads(function.__code__):
        if name in function.__globals__:
            value = function.__globals__[name]
            _check_value(written_, function, name, value, "reads the global", line, seen)


def _check_value(
    written_: Written,
    function: types.FunctionType,
    name: str,
    value: Any,
    how: str,
    line: int | None,
    seen: set[int],
) -> None:
    """Refuse a value of outside a function that is neither constant nor code that travels."""
    advice = "pass it as an attribute of a small class, which travels with its tensors"
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, (type, types.ModuleType)):
        value = owner  # a method of an object, which holds what the object does
    if isinstance(value, nn.Module):
        raise mistake(
            written_, f"{how} {name}, a module of torch ({type(value).__name__}), which does not "
            "travel; keep the tensors that it needs in a small class", line, function,
        )  # fmt: skip
    if isinstance(value, types.ModuleType):
        if value.__name__.partition(".")[0] not in INSTALLED:
            raise mistake(
                written_, f"{how} {name}, and a server has no {value.__name__}; use "
                f"{', '.join(INSTALLED[1:])} alone", line, function,
            )  # fmt: skip
        return
    inner = getattr(value, "written", None)
    if isinstance(inner, Written):  # another extension is called as its function
        _check_function(written_, inner.call, seen)
        return
    if _is_constant(value) or _home(value) in INSTALLED:
        return
    bare: Any = unwrapped(value)
    if isinstance(bare, types.FunctionType):
        _check_function(written_, bare, seen)
        return
    if isinstance(value, Tensor):
        raise mistake(written_, f"{how} {name}, a tensor; {advice}", line, function)
    raise mistake(
        written_,
        f"{how} {name}, a {type(value).__name__}, which may change between calls and does not "
        f"travel; {advice}",
        line,
        function,
    )


def _home(value: Any) -> str:
    """The package that a function or class comes from, or ""."""
    if not callable(value):
        return ""
    kind: Any = value if hasattr(value, "__module__") else type(value)
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _is_constant(value: Any) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_constant, cast(Any, value)))
    return isinstance(value, CONSTANTS)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _stores(code: types.CodeType) -> Iterator[tuple[int | None, str, str]]:
    """Where outer variables are assigned: the line, what kind of variable, and its name."""
    for number, inner in enumerate(_codes(code)):
        for one in dis.get_instructions(inner):
            if one.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                yield _line(one), "global", str(one.argval)
            free = one.opname == "STORE_DEREF" and one.argval in inner.co_freevars
            if free and (not number or one.argval in code.co_freevars):
                yield _line(one), "outer variable", str(one.argval)


def _loads(code: types.CodeType) -> Iterator[tuple[int | None, str]]:
    for inner in _codes(code):
        for one in dis.get_instructions(inner):
            if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield _line(one), str(one.argval)


def _imports(code: types.CodeType) -> Iterator[tuple[int | None, str]]:
    """The modules that are imported when a function is called, each with its line."""
    for inner in _codes(code):
        for one in dis.get_instructions(inner):
            if one.opname == "IMPORT_NAME":
                yield _line(one), str(one.argval)


def _sets_itself(function: types.FunctionType) -> int | None:
    """The line on which a method assigns an attribute of its object or of its class, or None."""
    code = function.__code__
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):  # typed into a prompt
        return None
    own = code.co_varnames[0] if code.co_argcount else None
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
            continue
        holder = node.value
        if isinstance(holder, ast.Call) and len(holder.args) == 1:  # type(self)
            called = holder.func
            holder = holder.args[0] if getattr(called, "id", "") == "type" else holder
        elif isinstance(holder, ast.Attribute) and holder.attr == "__class__":
            holder = holder.value
        if isinstance(holder, ast.Name) and holder.id == own:
            return code.co_firstlineno + node.lineno - 1
    return None


def _line(instruction: dis.Instruction) -> int | None:
    positions = instruction.positions
    return None if positions is None else positions.lineno
