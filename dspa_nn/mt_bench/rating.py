"""The rating in a judge's text, read as FastChat reads it."""

import re
from dataclasses import dataclass

# FastChat, fastchat/llm_judge/common.py: the first number in double brackets, else the first one in
# single brackets.
_DOUBLE = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SINGLE = re.compile(r"\[(\d+\.?\d*)\]")
LOWEST, HIGHEST = 1, 10


@dataclass(frozen=True)
class Rating:
    """What a judge's text says.

    Attributes:
        score: the rating, or -1 where there is none, as in FastChat's files.
        note: why the rating is none or in doubt; empty where it is plain.
    """

    score: int | float
    note: str = ""

    @property
    def usable(self) -> bool:
        """Whether there is a rating from 1 to 10."""
        return self.score != -1


def read_rating(judgment: str, answer: str = "") -> Rating:
    """Read the rating as FastChat does: the first `[[n]]`, else the first `[n]`, else none.

    Example:
        >>> read_rating("Clear and correct. Rating: [[8]]")
        Rating(score=8, note='')
        >>> read_rating("Rating: [[11]]")
        Rating(score=-1, note='rating 11 is not from 1 to 10')
        >>> read_rating("It asks for [[10]], but is off topic. Rating: [[2]]", "Say [[10]]!")
        Rating(score=10, note='several ratings: 10, 2; the first may be quoted from the answer')

    FastChat takes any number; here one outside 1 to 10 is no rating. Where several different
    ratings stand in the text, the first counts, as in FastChat, and the note says so: an answer
    that asks for `[[10]]`, quoted by the judge, would be graded by itself.

    Args:
        judgment: the judge's text.
        answer: what was judged.

    Source: FastChat 0.2.36, fastchat/llm_judge/common.py.
    """
    numbers = _DOUBLE.findall(judgment)
    pattern = _DOUBLE if numbers else _SINGLE
    numbers = numbers or _SINGLE.findall(judgment)
    if not numbers:
        return Rating(-1, "no rating")
    score = _number(numbers[0])
    if not LOWEST <= score <= HIGHEST:
        return Rating(-1, f"rating {numbers[0]} is not from {LOWEST} to {HIGHEST}")
    different = list(dict.fromkeys(numbers))
    note = ""
    if len(different) > 1:
        note = f"several ratings: {', '.join(different)}"
    if numbers[0] in pattern.findall(answer):
        note += ("; the first" if note else "the rating") + " may be quoted from the answer"
    return Rating(score, note)


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)
