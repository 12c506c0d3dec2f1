"""Tokens into text as they come: no broken character, nothing of a stop string."""

from collections.abc import Sequence
from typing import Any

# What a tokenizer decodes the first bytes of a longer character to.
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of an answer, piece by piece, as its tokens come.

    Example:
        >>> stream = TextStream(tokenizer, stops=["lo"])
        >>> ids = tokenizer("Hello", add_special_tokens=False).input_ids
        >>> pieces = [stream.add(token) for token in ids]
        >>> "".join(pieces) + stream.end(), stream.stopped
        ('Hel', True)

    The pieces together are the whole text, special tokens left out, up to the first stop string.
    Held back are bytes that are no whole character yet, and text that may turn out to be the
    beginning of a stop string.

    Args:
        tokenizer: of the transformers kind.
        stops: strings that end the answer and are not part of it.

    Attributes:
        stopped: whether a stop string has come.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._tokens: list[int] = []
        # Tokens up to `_read` are in the text; a few before them show how later ones are spaced.
        self._context = self._read = 0
        self._held: str = ""
        self.stopped = False

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def add(self, token: int) -> str:
        """Add a token; return the text that is certain by now and was not returned before."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._context : self._read])
        whole = self._decode(self._tokens[self._context :])
        if len(whole) <= len(before) or whole.endswith(UNFINISHED):
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return self._release(whole[len(before) :])

    def end(self) -> str:
        """No more tokens come: return the text that was held back."""
        before = self._decode(self._tokens[self._context : self._read])
        whole = self._decode(self._tokens[self._context :])
        self._read = len(self._tokens)
        rest = self._release(whole[len(before) :])
        held, self._held = self._held, ""
        return rest + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
