"""From what a run is given at a point, an extension or its name, to the rule that runs there."""

import contextlib
import os
import reprlib
from collections.abc import Generator
from typing import Any

from dspa_nn.errors import ExtensionError
from dspa_nn.extensions.points import POINTS, Kind, point_of
from dspa_nn.extensions.register import (
    BUILT_IN,
    Extension,
    Known,
    known_classes,
    known_names,
)
from dspa_nn.extensions.source import Written, unwrapped
from dspa_nn.extensions.state import check_travels
from dspa_nn.extensions.trying import check_call, learnt_axes, try_on_samples
from dspa_nn.graph.rules import Rule
from dspa_nn.graph.spelling import did_you_mean

_debugging: list[bool] = []


def check(subject: Any) -> None:
    """Run all checks of a registered extension again, or refuse what is none.

    Example:
        >>> from dspa_nn.extensions import soft_gate
        >>> check(soft_gate)
    """
    known = _of(subject)
    if known is None:
        raise ExtensionError(f"{subject!r} is not registered; put @dspa_nn.extension(...) above it")
    check_travels(known.written)
    try_on_samples(known.written, point_of(known.written.kind), known.wants)


def names(kind: Kind) -> list[str]:
    """The names that may be given at a point, the paper's and this package's among them.

    Example:
        >>> names("edit")[0]
        'paper'
    """
    point_of(kind)
    return [*BUILT_IN[kind], *(name for known, name in known_names if known == kind)]


def rule_of(kind: str, value: Any) -> Rule | None:
    """What runs where a value was given for a point; None leaves the point to the paper's rule.

    Example:
        >>> rule_of("edit", "paper").wants
        ('latents', 'strongest', 'signs', 'alpha')

    Raises:
        ExtensionError: what is no extension, or one of another point.
    """
    if value is None:
        return None
    if isinstance(value, str) and value in BUILT_IN[kind]:
        return BUILT_IN[kind][value]
    value, known = _found(kind, value)
    written = known.written
    if written.owner is None:
        rule = value.rule
    else:
        rule = Rule(kind, written.name, written.call, known.wants, value)
    return _watched(rule, written) if any(_debugging) or os.environ.get("DSPA_DEBUG") else rule


def extension_of(kind: str, value: Any) -> Any:
    """The extension that a value stands for at a point: itself, by its name, or made of its class.

    Example:
        >>> extension_of("gate", "soft_gate").name, extension_of("gate", "density") is None
        ('soft_gate', True)

    None for the paper's rules, and where no value was given.

    Raises:
        ExtensionError: what is no extension, or one of another point.
    """
    if value is None or (isinstance(value, str) and value in BUILT_IN[kind]):
        return None
    return _found(kind, value)[0]


def _found(kind: str, value: Any) -> tuple[Any, Known]:
    """An extension, given itself, by its name or as its class, and what is registered of it."""
    if isinstance(value, str):
        if (kind, value) not in known_names:
            near = did_you_mean(value, names(kind))  # pyright: ignore[reportArgumentType]
            raise ExtensionError(
                f"{kind}= is {value!r}, and no {kind} of that name is registered{near}; give one "
                f"of {', '.join(names(kind))}, or what @dspa_nn.extension({kind!r}) made"  # pyright: ignore[reportArgumentType]
            )
        value = known_names[kind, value].extension
    known = _of(value)
    if known is None:
        shown = getattr(unwrapped(value), "__name__", None) or reprlib.repr(value)
        raise ExtensionError(
            f"{kind}= is {shown}, which is not registered; put @dspa_nn.extension({kind!r}) above "
            "it, or give the name of one that is"
        )
    written = known.written
    if written.kind != kind:
        raise ExtensionError(
            f"{kind}= is {written.name}, which is registered as a {written.kind}; give it as "
            f"{written.kind}="
        )
    return (_made(value) if isinstance(value, type) else value), known


@contextlib.contextmanager
def debug() -> Generator[None]:
    """Check every call of an extension inside the context: axes, numbers, changes in place.

    Example:
        >>> from dspa_nn.extensions import soft_gate
        >>> with debug():
        ...     plan = dspa.plan(map, "Tell me about volcanoes.", gate=soft_gate)

    What `apply` and `attach` are given inside it is checked for as long as it is used. The
    environment variable DSPA_DEBUG=1 has the same effect everywhere. Nothing is checked on NDIF,
    where there is nothing to check with.
    """
    _debugging.append(True)
    try:
        yield
    finally:
        _debugging.pop()


def _watched(rule: Rule, written: Written) -> Rule:
    """The same rule, each of whose calls is checked."""
    point = POINTS[rule.kind]

    def watched(*state: Any, **given: Any) -> Any:
        axes = learnt_axes(point, given, {})
        return check_call(written, point, given, axes, *state)

    return Rule(rule.kind, rule.name, watched, rule.wants, rule.state)


def _of(value: Any) -> Known | None:
    """What is registered of an extension: a function's, a class's or an object's."""
    if isinstance(value, Extension):
        written: Written = value.written
        return Known(written, list(value.rule.wants), value)
    return known_classes.get(value if isinstance(value, type) else type(value))


def _made(kind: type) -> Any:
    try:
        return kind()
    except TypeError:
        raise ExtensionError(
            f"the class {kind.__name__} came where an object of it is needed; give "
            f"{kind.__name__}(...), with what it holds"
        ) from None
