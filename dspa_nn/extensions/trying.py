"""An extension is tried on sample inputs: what it returns, and what it does to what it is given."""

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor

from dspa_nn.errors import ExtensionError
from dspa_nn.extensions.changes import copy_of, same, snapshot, version_of, written_to
from dspa_nn.extensions.points import (
    Axes,
    Point,
    axis_names,
    described,
    generic,
    shaped,
    with_sizes,
    written,
)  # fmt: skip
from dspa_nn.extensions.samples import sample_of_class, samples
from dspa_nn.extensions.source import Written, mistake, place
from dspa_nn.extensions.tracing import traced
from dspa_nn.graph.rules import planned_twice
from dspa_nn.imports import late, untyped


def try_on_samples(subject: Written, point: Point, wants: list[str]) -> None:
    """Call an extension on every sample of its kind, and refuse it with its first mistake.

    Each sample is run twice: the same inputs must give the same result.
    """
    for sample in samples(subject.kind):
        state: Any = None
        held: dict[str, Any] = {}
        if subject.owner is not None:
            state = _object_for(subject, sample.axes)
            held = snapshot(vars(state))
        given = {name: sample.given[name] for name in wants}
        result = check_call(subject, point, given, dict(sample.axes), state, sample.words)
        if state is not None:
            _check_held(subject, held, cast(dict[str, Any], vars(state)))
        again = _call(subject, copy_of(given), state, "")
        if not _equal(result, again):
            raise mistake(
                subject,
                "returned other values for equal inputs, and must depend on them alone; draw no "
                "random numbers and keep no state",
            )


def _object_for(subject: Written, axes: Axes) -> Any:
    """A sample object of a class; what its constructor raises comes as a sentence."""
    owner = cast(type, subject.owner)
    try:
        return sample_of_class(owner, axes, subject.where)
    except ExtensionError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise mistake(
            subject,
            f"could not be made for the trial ({text}); make its constructor take the tensors that "
            f"its annotations describe, or write a classmethod sample(axes), axes being "
            f"{', '.join(axes)}",
        ) from error


def _check_held(subject: Written, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse an object that a call has changed; `before` is of `snapshot`."""
    for name, value in after.items():
        if name not in before or not same(value, before[name]):
            raise mistake(
                subject,
                f"changed what it holds as self.{name}, and calls may come in any order and "
                "number; compute what is needed from the arguments",
            )


def check_call(
    subject: Written,
    point: Point,
    given: Mapping[str, Any],
    axes: Axes,
    state: Any = None,
    words: str = "",
) -> Any:
    """Call an extension, check its arguments and its result by their axes, and return the result.

    Args:
        subject: the extension.
        point: what it is given and returns.
        given: the arguments, by name.
        axes: sizes of the axes of `point`; those that it does not know are learnt.
        state: the object, of a class.
        words: what is special about the inputs, for the error.

    Raises:
        ExtensionError: an annotation that the arguments or the result contradict, a result that
            the point cannot take, or an argument that was changed in place.
    """
    hints = inspect.get_annotations(subject.call, eval_str=True)
    bearable = late("beartype.door").is_bearable
    versions = {name: version_of(value) for name, value in given.items()}
    values = copy_of(given)
    with _axes_in_force():
        for name, value in given.items():
            hint = hints.get(name)
            looked_at = isinstance(value, (Tensor, type(None))) and name != "alpha"
            if looked_at and not bearable(value, hint):
                raise mistake(
                    subject,
                    f"annotates {name} as {written(hint)}, and is given {described(value)}, "
                    f"{with_sizes(point.takes[name], axes)}",
                )
        result = _call(subject, given, state, words)
        changed = [
            name
            for name, value in given.items()
            if version_of(value) != versions[name] or written_to(value, values[name])
        ]
        if changed:
            line = traced(subject, given, state).changed.get(changed[0])
            raise mistake(
                subject,
                f"changed its argument {changed[0]} in place, which others still read; write to a "
                f"new tensor, as {changed[0]}.clone() makes one",
                line,
            )
        check_result(subject, point, given, result, axes, state, words)
        if not bearable(result, hints["return"]):
            raise mistake(
                subject,
                f"is annotated to return {written(hints['return'])}, and returned "
                f"{_all_described(result)}",
                traced(subject, given, state).returned,
            )
    return result


def _axes_in_force() -> AbstractContextManager[None]:
    """Jaxtyping's context: inside it an axis has one size, whichever annotation names it."""
    return untyped("jaxtyping").jaxtyped("context")


def check_result(
    subject: Written,
    point: Point,
    given: Mapping[str, Any],
    result: Any,
    axes: Axes,
    state: Any,
    words: str,
) -> None:
    """Refuse a result that the point cannot take."""
    parts: list[Any] = list(cast(Any, result)) if isinstance(result, tuple) else [result]
    wanted = list(point.returns)
    if point.also is not None and len(parts) == 2:
        wanted.append(point.also)
    if len(parts) != len(wanted) or not all(isinstance(part, Tensor) for part in parts):
        each = ", ".join(with_sizes(one, axes) for one in wanted)
        raise _at_return(subject, f"returned {_all_described(result)}, expected {each}", given,
                         state, words)  # fmt: skip
    dtypes: list[Any] = [None] * len(wanted)
    if subject.kind == "edit":
        dtypes[0] = given["latents"].dtype if "latents" in given else None
    for part, annotation, dtype in zip(parts, wanted, dtypes, strict=True):
        fault = _fault(part, annotation, dtype, axes)
        if fault:
            raise _at_return(subject, fault, given, state, words)
    if subject.kind == "select":
        for part in parts:
            outside = part[(part < -1) | (part >= axes["d_out"])]
            if len(outside):
                text = (
                    f"planned latent {int(outside[0])}, and there are latents 0 to "
                    f"{axes['d_out'] - 1} (-1 pads a row)"
                )
                raise _at_return(subject, text, given, state, words)
        twice = planned_twice(*parts)
        if twice is not None:
            text = f"planned latent {twice} twice for one prompt, and each moves once"
            raise _at_return(subject, text, given, state, words)


def _fault(part: Tensor, annotation: Any, dtype: torch.dtype | None, axes: Axes) -> str | None:
    """What is wrong with one tensor of a result, in words, or None."""
    names = axis_names(annotation)
    sizes = [axes.get(name, int(name) if name.isdigit() else None) for name in names]
    fits = part.dim() == len(names) and all(
        size is None or size == found for size, found in zip(sizes, part.shape, strict=True)
    )
    if not fits:
        hint = ""
        if (
            part.dim() == len(names)
            and None not in sizes
            and sorted(part.shape) == sorted(size or 0 for size in sizes)
        ):
            hint = "; its axes are in another order"
        found, expected = described(part), with_sizes(annotation, axes)
        if str(part.dtype).removeprefix("torch.") in annotation.dtypes:
            found, expected = generic(found), generic(expected)
        return f"returned {found}, expected {expected}{hint}"
    kinds = annotation.dtypes if dtype is None else [str(dtype).removeprefix("torch.")]
    if str(part.dtype).removeprefix("torch.") not in kinds:
        numbers = " or ".join(kinds)
        return (
            f"returned {described(part)}, expected {numbers}, {with_sizes(annotation, axes)}; "
            f"write .to(torch.{kinds[0]})"
        )
    if not bool(torch.isfinite(part).all()):
        places: Any = torch.nonzero(~torch.isfinite(part))
        first: list[int] = places[0].tolist()
        value = float(part[tuple(first)])
        named = ", ".join(f"{name} {index}" for name, index in zip(names, first, strict=True))
        return (
            f"returned {'NaN' if value != value else 'infinity'} at {named}; guard its divisions, "
            "roots and logarithms"
        )
    return None


def _at_return(
    subject: Written, text: str, given: Mapping[str, Any], state: Any, words: str
) -> ExtensionError:
    about = f" for {words}" if words else ""
    return mistake(subject, f"{text}{about}", traced(subject, given, state).returned)


def _call(subject: Written, given: Mapping[str, Any], state: Any, words: str) -> Any:
    """The result of a call; what the extension raises comes as a sentence with its line."""
    first = () if state is None else (state,)
    try:
        return subject.call(*first, **given)
    except Exception as error:
        line, own = subject.call.__code__.co_firstlineno, error.__traceback__
        while own is not None:
            if own.tb_frame.f_code is subject.call.__code__:
                line = own.tb_lineno
            own = own.tb_next
        text = " ".join(str(error).split())
        about = f" for {words}" if words else ""
        shapes = ", ".join(
            f"{name} {described(value)}"
            for name, value in given.items()
            if isinstance(value, Tensor)
        )
        raise ExtensionError(
            f"{subject.kind} {subject.name} raised {type(error).__name__} ({text}){about} with "
            f"{shapes or 'its arguments'} ({place(subject.call, line)})"
        ) from error


def learnt_axes(point: Point, given: Mapping[str, Any], known: Axes) -> Axes:
    """The sizes of a point's axes, from the arguments of a call.

    >>> from dspa_nn.extensions.points import POINTS
    >>> learnt_axes(POINTS["gate"], {"tau": torch.zeros(7)}, {"batch": 2})
    {'batch': 2, 'd_in': 7}
    """
    axes = dict(known)
    for name, value in given.items():
        annotation = point.takes[name]
        if isinstance(value, Tensor) and shaped(annotation):
            axes |= {
                axis: size
                for axis, size in zip(axis_names(annotation), value.shape, strict=True)
                if not axis.isdigit()
            }
        elif name in ("d_in", "d_out"):
            axes[name] = int(value)
    return axes


def _all_described(result: Any) -> str:
    if isinstance(result, tuple):
        parts = cast(tuple[Any, ...], result)
        return f"({', '.join(map(described, parts))})"
    return described(result)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        parts = cast(tuple[Any, ...], one)
        return all(map(_equal, parts, other))
    return torch.equal(one, other)
