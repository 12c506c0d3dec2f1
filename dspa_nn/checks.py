"""Checks of single values that several packages make alike, each refused in one sentence."""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from dspa_nn.errors import DSPAError


def check_positive_int(name: str, value: object, error: type[DSPAError]) -> None:
    """Refuse what is no whole number of at least 1.

    >>> check_positive_int("k_diff", 16, DSPAError)
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise error(f"{name} is {value!r}; expected a whole number of at least 1.")


def check_choice(name: str, value: object, choices: Sequence[str], error: type[DSPAError]) -> None:
    """Refuse what is none of the named choices; the sentence names the nearest one.

    >>> check_choice("gate", "active", ("active", "literal"), DSPAError)
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise error(f"{name} is {value!r}; expected one of {listed}{did_you_mean(value, choices)}.")


def check_names(
    what: str, given: Iterable[str], known: Sequence[str], error: type[DSPAError]
) -> None:
    """Refuse keywords that a call does not take; the sentence names the nearest right one.

    >>> check_names("fit", ["percentile"], ["percentile", "k_diff"], DSPAError)
    """
    for name in given:
        if name not in known:
            raise error(
                f"{what} takes no {name}{did_you_mean(name, known)}; it takes {', '.join(known)}."
            )


def did_you_mean(value: object, choices: Sequence[str]) -> str:
    """A clause with the nearest of the choices, or nothing where none is near.

    >>> did_you_mean("percentil", ["percentile", "k_diff"])
    " (did you mean 'percentile'?)"
    """
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""
