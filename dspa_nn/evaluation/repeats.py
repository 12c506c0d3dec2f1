"""Repetition in answers: n-grams that were said before, and loops that an answer ends in."""

from jaxtyping import Int64
from torch import Tensor

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation.answers import distinct


def repetition(ids: Int64[Tensor, " tokens"], n: int = 4) -> float:
    """Share of an answer's n-grams of tokens that stand in it before; NaN where it has none.

    Example:
        >>> repetition(torch.tensor([5, 6, 5, 6, 5]), 2)
        0.5

    It is 1 less distinct-n. With n = 4 ordinary prose has next to none.

    Raises:
        DSPAError: n below 1.
    """
    check_positive_int("n", n, DSPAError)
    return 1 - distinct(ids, n)


def loop(ids: Int64[Tensor, " tokens"], times: int = 3, least: int = 8) -> int:
    """The period of the loop that an answer ends in, in tokens; 0 where it ends in none.

    Example:
        >>> loop(torch.tensor([1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 2]))
        3
        >>> loop(torch.tensor([1, 2, 3, 4]))
        0

    An answer loops where its last tokens are one stretch over and over, `times` times at least and
    over `least` tokens at least. The shortest such stretch counts. The share of looping answers is
    the mean of `loop(ids) > 0`.

    Raises:
        DSPAError: times or least below 1.
    """
    check_positive_int("times", times, DSPAError)
    check_positive_int("least", least, DSPAError)
    tokens = [int(token) for token in ids]
    for period in range(1, len(tokens) // times + 1):
        needed = max(times * period, least)
        tail = tokens[-needed:]
        if len(tail) == needed and tail[period:] == tail[:-period]:
            return period
    return 0
