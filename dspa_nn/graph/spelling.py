# pyright: basic
"""The nearest right word to one that is not known, for the sentence that refuses it."""

from collections.abc import Sequence


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
