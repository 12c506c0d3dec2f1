"""`@dspa_nn.extension`: functions and small classes that decide at one of the four points."""

import linecache
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

from dspa_nn.errors import ExtensionError
from dspa_nn.extensions.points import Kind, point_of
from dspa_nn.extensions.source import Written, as_written, check_types
from dspa_nn.extensions.state import check_travels
from dspa_nn.extensions.travel import reduced
from dspa_nn.extensions.trying import try_on_samples
from dspa_nn.graph.rules import EDIT, GATES, SCORE, SELECT, Rule
from dspa_nn.shipping import Reduced, Shipped, stand_in_for

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The paper's own rules, and the other prompt rules, by kind and name.
BUILT_IN: dict[str, dict[str, Rule]] = {
    "gate": GATES,
    "score": {SCORE.name: SCORE},
    "select": {SELECT.name: SELECT},
    "edit": {EDIT.name: EDIT},
}


class Extension(Shipped, Generic[P, R]):
    """A function that decides at one point of a run; called, it is that function.

    Attributes:
        kind: "gate", "score", "select" or "edit".
        name: what logs call it; it stands for the extension wherever one is given.
        written: how it was written.
        rule: what runs.
    """

    def __init__(self, written: Written, function: Callable[P, R], wants: list[str]) -> None:
        self.kind, self.name = written.kind, written.name
        self.written, self._function = written, function
        self.rule = Rule(written.kind, written.name, written.call, wants)
        self.__doc__ = function.__doc__
        self.__module__ = written.call.__module__
        self.__qualname__ = written.call.__qualname__
        self.__wrapped__ = written.call

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function that was registered."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}({', '.join(self.rule.wants)}), {self.written.where}>"

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF: the bare function."""
        return reduced(self.rule, self.written)

    def __reduce__(self) -> str:
        return self.__qualname__  # found under its name, as a function is


class Known:
    """What is registered under one name."""

    def __init__(self, written: Written, wants: list[str], extension: Any) -> None:
        self.written, self.wants, self.extension = written, wants, extension


# All that is registered, by kind and name, and the classes among it.
known_names: dict[tuple[str, str], Known] = {}
known_classes: dict[type, Known] = {}


@runtime_checkable
class Decorator(Protocol):
    """What `extension(kind)` returns: it registers a function or a class."""

    @overload  # a class can be called too, and is tried first
    def __call__(self, written: type[T], /) -> type[T]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, written: Callable[P, R], /) -> Extension[P, R]: ...


def extension(kind: Kind, *, name: str | None = None) -> Decorator:
    """Register a gate, a score, a selection or an edit of your own, checked at once.

    Example:
        >>> from jaxtyping import Float, Float64, Int64
        >>> from torch import Tensor
        >>> @extension("select", name="lowest two")
        ... def lowest_two(
        ...     scores: Float64[Tensor, "batch d_out"],
        ... ) -> tuple[Int64[Tensor, "batch none"], Int64[Tensor, "batch two"]]:
        ...     order = scores.argsort(dim=-1, stable=True)
        ...     return order[:, :0], order[:, :2]
        >>> len(dspa.plan(map, "Tell me about volcanoes.", select=lowest_two).ablate)
        2

    It is then given to `DSPA.apply`, `attach` or `plan` as `gate=`, `score=`, `select=` or `edit=`:
    itself, or its name. Arguments are asked for by name; docs/howto/extend.md lists what each point
    offers. A class is registered likewise: its constructor takes what it holds (tensors, numbers),
    `__call__` is the function, and an object of it is given.

    Args:
        kind: the point: "gate" weighs the prompt's latents, "score" scores output latents by these
            weights, "select" plans latents by the scores, "edit" moves them.
        name: what logs call it; None takes the function's or the class's own.

    Raises:
        ExtensionError: an argument without a type or that the point does not offer, a result of
            other axes or numbers, NaN, an argument changed in place, state, code that cannot
            travel to NDIF, or a name that is taken. The sentence ends with the line at fault.
    """
    point_of(kind)
    word: Any = name
    if word is not None and not (isinstance(word, str) and word.strip() and word.isprintable()):
        raise ExtensionError(
            f"the name of an extension is {name!r}; expected a word or a few, on one line"
        )

    def register(subject: Any) -> Any:
        return registered_as(kind, subject, name, check=True)

    return register


def declared(kind: Kind, *, name: str | None = None) -> Decorator:
    """Register an extension of this package, whose samples are run by its tests, not at import.

    Example:
        >>> from jaxtyping import Float64
        >>> from torch import Tensor
        >>> @declared("gate", name="all alike")
        ... def all_alike(
        ...     densities: Float64[Tensor, "batch d_in"],
        ... ) -> Float64[Tensor, "batch d_in"]:
        ...     return densities * 0 + 1
        >>> all_alike.name
        'all alike'
    """

    def register(subject: Any) -> Any:
        return registered_as(kind, subject, name, check=False)

    return register


def registered_as(kind: str, subject: Any, name: str | None, check: bool) -> Any:
    """Check a function or a class and remember it under its name."""
    written = as_written(kind, subject, name)
    _check_name(written)
    wants = check_types(written, point_of(kind))
    if check:
        check_travels(written)
        try_on_samples(written, point_of(kind), wants)
    made = subject if written.owner else Extension(written, subject, wants)
    known = known_names[kind, written.name] = Known(written, wants, made)
    if written.owner is not None:
        known_classes[written.owner] = known
        stand_in_for(written.owner, _reduce_object)
    return made


def _reduce_object(value: Any) -> Reduced:
    """What nnsight's pickler writes in place of an object of a registered class."""
    known = known_classes[type(value)]
    written = known.written
    return reduced(Rule(written.kind, written.name, written.call, known.wants, value), written)


def _check_name(written: Written) -> None:
    """Refuse a name that is taken; a cell or module that is run again takes its own name anew."""
    kind, name = written.kind, written.name
    if name in BUILT_IN[kind]:
        raise ExtensionError(
            f"the name {name} is that of a {kind} of the paper's; choose another, or give name="
        )
    before = known_names.get((kind, name))
    if before is None:
        return
    old, new = before.written.call, written.call
    same = (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    if same:
        file, line = old.__code__.co_filename, old.__code__.co_firstlineno
        if (file, line) == (new.__code__.co_filename, new.__code__.co_firstlineno):
            return
        if file != new.__code__.co_filename or not _still_there(file, old.__name__, line):
            return
    raise ExtensionError(
        f"the name {name} is taken by the {kind} at {before.written.where}; choose another, or "
        f"give name= ({written.where})"
    )


def _still_there(file: str, name: str, line: int) -> bool:
    """Whether a file still defines a name near a line, so that it is defined there twice."""
    linecache.checkcache(file)
    nearby = linecache.getlines(file)[line - 1 : line + 3]
    return any(f"def {name}" in one or f"class {name}" in one for one in nearby)
