# pyright: basic
"""What is refused while a block runs: one class for each of the toolkit's errors that it becomes.

A block may run on a server that has no `dspa_nn`. Code in `graph/` therefore raises `refuse(...)`,
which is the toolkit's own error where that can be imported, and a class of this module elsewhere.
`dspa_nn/ndif/messages.py` turns such a class into the toolkit's error on the user's machine.
"""

from collections.abc import Sequence

from dspa_nn.graph.adapter import look_up


class SteeringRefusal(ValueError):
    """A run that cannot be steered as asked."""

    error = "dspa_nn.errors.SteeringError"


class MapRefusal(ValueError):
    """A map that cannot be used with this model or these SAEs."""

    error = "dspa_nn.errors.MapError"


class CountsRefusal(ValueError):
    """Activations that cannot be counted."""

    error = "dspa_nn.errors.CountsError"


class ExtensionRefusal(ValueError):
    """A user's rule that returned what no run can be steered by."""

    error = "dspa_nn.errors.ExtensionError"


REFUSALS = (SteeringRefusal, MapRefusal, CountsRefusal, ExtensionRefusal)


def refuse(kind, text: str) -> Exception:
    """The exception to raise: the toolkit's error for this kind of refusal where it is installed.

    >>> raise refuse(SteeringRefusal, "alpha is -1, and must be a finite number of at least 0")
    Traceback (most recent call last):
    dspa_nn.errors.SteeringError: alpha is -1, and must be a finite number of at least 0
    """
    try:
        error = look_up(kind.error)
    except ImportError:
        error = kind
    return error(text)


def did_you_mean(value: object, choices: Sequence[str]) -> str:
    """A clause with the nearest of the choices, or nothing where none is near.

    >>> did_you_mean("abblate", ("ablate", "augment", "both"))
    " (did you mean 'ablate'?)"

    Near means that at most a third of the letters, or one, would have to change, or that the word
    is a choice with letters left out.
    """
    if not isinstance(value, str) or not choices:
        return ""
    nearest = min(choices, key=lambda choice: changes(value, choice))
    if changes(value, nearest) > max(1, len(value) // 3):
        nearest = next((choice for choice in choices if shortens(value, choice)), None)
    return "" if nearest is None else f" (did you mean {nearest!r}?)"


def shortens(word: str, whole: str) -> bool:
    """Whether a word of three letters or more is another one with letters left out.

    >>> shortens("tresh", "threshold")
    True
    """
    rest = iter(whole)
    return len(word) > 2 and word[0] == whole[0] and all(letter in rest for letter in word)


def changes(one: str, other: str) -> int:
    """The least number of letters to put in, take out, replace or swap between two words.

    >>> changes("abblate", "ablate"), changes("shrad", "shard")
    (1, 1)
    """
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
