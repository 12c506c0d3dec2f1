"""Checks of single values that several packages make alike, each refused in one sentence."""

import math
import operator
import reprlib
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from dspa_nn.errors import DSPAError
from dspa_nn.graph.spelling import did_you_mean
from dspa_nn.imports import late

# Logits over a temperature far below this overflow.
LEAST_TEMPERATURE = 1e-6


def check_type(name: str, value: object, hint: Any, error: type[DSPAError]) -> None:
    """Refuse what is not of an annotated type, items of containers included (as beartype samples).

    >>> check_type("layers", [7, 24], list[int], DSPAError)
    >>> check_type("layers", "7", list[int], DSPAError)
    Traceback (most recent call last):
    dspa_nn.errors.DSPAError: layers is '7', of type str; expected list[int].

    `hint` is any annotation, such as `str | Sequence[Mapping[str, str]]`. Classes and unions of
    classes are checked without beartype, which takes a moment to load.
    """
    classes = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if all(isinstance(part, type) for part in classes):
        fits = isinstance(value, hint)
    else:
        fits = late("beartype.door").is_bearable(value, hint)
    if not fits:
        shown = " ".join(reprlib.repr(value).split())  # a model's repr has many lines
        raise error(f"{name} is {shown}, of type {type(value).__name__}; expected {as_text(hint)}.")


def as_text(hint: Any) -> str:
    """An annotation as a person writes it.

    >>> import typing
    >>> as_text(int), as_text(None | typing.Literal["a", "b"])
    ('int', "'a' or 'b' or None")
    """
    if isinstance(hint, type) and not hasattr(hint, "__origin__"):
        return "None" if hint is type(None) else hint.__name__
    if get_origin(hint) in (Union, UnionType):
        parts = sorted(map(as_text, get_args(hint)), key="None".__eq__)
        return " or ".join(parts)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def check_positive_int(name: str, value: object, error: type[DSPAError]) -> None:
    """Refuse what is no whole number of at least 1.

    >>> check_positive_int("k_diff", 16, DSPAError)
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise error(f"{name} is {value!r}; expected a whole number of at least 1.")


def check_seed(seed: object, error: type[DSPAError]) -> None:
    """Refuse what numpy's generators do not take.

    >>> check_seed(0, DSPAError)
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise error(f"seed is {seed!r}; expected a whole number of at least 0")


def check_finite_number(name: str, value: object, error: type[DSPAError]) -> None:
    """Refuse what is no finite number.

    >>> check_finite_number("scale", -0.5, DSPAError)
    >>> check_finite_number("scale", float("nan"), DSPAError)
    Traceback (most recent call last):
    dspa_nn.errors.DSPAError: scale is nan; expected a finite number.
    """
    plain: Any = value
    if getattr(value, "ndim", None) == 0:  # numpy's and torch's scalars are numbers too
        plain = plain.item()
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not math.isfinite(plain):
        raise error(f"{name} is {value!r}; expected a finite number.")


def check_temperature(value: Any, error: type[DSPAError]) -> None:
    """Refuse a temperature of sampling that is neither 0 nor one that logits can be divided by.

    >>> check_temperature(0.7, DSPAError)
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(
        value, bool
    )
    if not number or (value != 0 and not LEAST_TEMPERATURE <= value < np.inf):
        raise error(
            f"temperature is {value!r}; expected 0, which takes the likeliest token, or a number "
            f"of at least {LEAST_TEMPERATURE}."
        )


def check_latents(side: str, latents: Iterable[Any], width: int) -> list[int]:
    """Latents of an SAE as plain whole numbers; what is none of its latents is refused.

    >>> check_latents("output", [0, 3], 4)
    [0, 3]
    >>> check_latents("output", [7], 4)
    Traceback (most recent call last):
    dspa_nn.errors.DSPAError: output latent 7 came, and the SAE has 4; give one from 0 to 3

    side: "input" or "output". width: how many latents the SAE has.
    """
    found: list[int] = []
    for latent in latents:
        try:
            number = -1 if isinstance(latent, bool) else operator.index(latent)
        except TypeError:
            number = -1
        if not 0 <= number < width:
            raise DSPAError(
                f"{side} latent {latent} came, and the SAE has {width}; give one from 0 to "
                f"{width - 1}"
            )
        found.append(number)
    return found


def check_choice(name: str, value: object, choices: Sequence[str], error: type[DSPAError]) -> None:
    """Refuse what is none of the named choices; the sentence names the nearest one.

    >>> check_choice("gate", "active", ("active", "literal"), DSPAError)
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise error(f"{name} is {value!r}; expected one of {listed}{did_you_mean(value, choices)}.")


def check_names(
    what: str, given: Iterable[str], known: Sequence[str], error: type[DSPAError], takes: str = ""
) -> None:
    """Refuse keywords that a call does not take; the sentence names the nearest right one.

    >>> check_names("plan", ["alpa"], ["alpha", "k_diff"], DSPAError)
    Traceback (most recent call last):
    dspa_nn.errors.DSPAError: plan takes no alpa (did you mean 'alpha'?); it takes alpha, k_diff

    takes: words for what it takes; without them the known keywords are listed.
    """
    unknown = sorted(set(given).difference(known))
    if unknown:
        near = did_you_mean(unknown[0], known)
        raise error(
            f"{what} takes no {', '.join(unknown)}{near}; it takes {takes or ', '.join(known)}"
        )
