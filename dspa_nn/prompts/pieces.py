"""The text of each token, where the tokens are read one after another."""

from collections.abc import Iterator, Sequence
from typing import Any


def token_texts(ids: Sequence[int], tokenizer: Any) -> Iterator[str]:
    """The text that each token adds, decoded after the tokens before it.

    >>> list(token_texts(tokenizer("sun").input_ids, tokenizer))
    ['s', 'u', 'n']

    Joined, they are the text of all. A character that several tokens make up is given to the last
    of them.
    """
    start = end = 0  # tokens whose text is known, from the last whole character on
    for index in range(len(ids)):
        known = tokenizer.decode(ids[start:end])
        text = tokenizer.decode(ids[start : index + 1])
        whole = not text.endswith("\ufffd") or index == len(ids) - 1
        yield text[len(known) :] if whole else ""
        if whole:
            start, end = end, index + 1
