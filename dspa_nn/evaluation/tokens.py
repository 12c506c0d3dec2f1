"""The change of log p under steering, token by token, of given responses."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64
from rich.text import Text
from torch import Tensor

from dspa_nn.prompts import token_texts

if TYPE_CHECKING:
    import pandas

# Nats from which on a word is coloured, and from which on it is bold as well.
COLOURED, BOLD = 0.2, 1.0


@dataclass(frozen=True)
class TokenChanges:
    """One teacher-forced response, token by token, under one method.

    Example:
        >>> from dspa_nn.evaluation import token_changes
        >>> response = dspa.render("Tell me about volcanoes.", "sun moon")
        >>> (changes,) = token_changes(dspa, [response], DSPAMethod("tuned", dspa, map))
        >>> changes.change.shape == response.response_ids.shape
        True
        >>> "".join(changes.tokens)
        'sun moon...'

    `str` marks the words that changed most, and rich prints them in colour:
    "The procedure is regulated[-2.2] by the institution[-1.7]".

    Attributes:
        ids: the response's tokens.
        unsteered, steered: log p of each, nats.
        edits: output latents edited where each token is predicted; 0 where a method has no log.
        share: there, norm of the residual stream's change over its norm, at the output layer.
        tokenizer: what `tokens` are decoded with.
    """

    ids: Int64[Tensor, " tokens"]
    unsteered: Float64[np.ndarray, " tokens"]
    steered: Float64[np.ndarray, " tokens"]
    edits: Int64[np.ndarray, " tokens"]
    share: Float64[np.ndarray, " tokens"]
    tokenizer: Any = field(repr=False, compare=False)

    @property
    def change(self) -> Float64[np.ndarray, " tokens"]:
        """Log p of each token under the method less that without it, nats."""
        return self.steered - self.unsteered

    @cached_property
    def tokens(self) -> list[str]:
        """The text of each token; joined, they are the response's text.

        A character that several tokens make up is given to the last of them.
        """
        return list(token_texts([int(token) for token in self.ids], self.tokenizer))

    def words(self) -> list[tuple[str, float]]:
        """Words and marks with the spaces before them, and the summed change of their tokens.

        Example:
            >>> from dspa_nn.evaluation import token_changes
            >>> (changes,) = token_changes(dspa, [dspa.render("hail", "sun moon")], None)
            >>> [text for text, _ in changes.words()][:2]
            ['sun', ' moon']
        """
        words: list[tuple[str, float]] = []
        for text, change in zip(self.tokens, self.change, strict=True):
            before = words[-1][0] if words else "."
            if not before.strip() or (_is_word(text) and _is_word(before) and text[:1].strip()):
                words[-1] = (before + text, words[-1][1] + float(change))
            else:
                words.append((text, float(change)))
        return words

    def marked(self, most: int = 6, least: float = 0.5) -> Text:
        """The text as rich prints it: coloured by the change, the largest changes in brackets.

        Example:
            >>> from dspa_nn.evaluation import token_changes
            >>> (changes,) = token_changes(dspa, [dspa.render("hail", "sun moon")], None)
            >>> changes.marked().plain[:8]
            'sun moon'

        Args:
            most: words that get their number, the largest changes first.
            least: nats that such a change has at least.
        """
        words = self.words()
        sizes = sorted((abs(change) for _, change in words), reverse=True)
        bar = max(least, sizes[min(most, len(sizes)) - 1]) if sizes and most else np.inf
        text = Text()
        for word, change in words:
            bare = word.lstrip()
            text.append(word[: len(word) - len(bare)].replace("\n", " "))
            number = f"[{change:+.1f}]" if bare and abs(change) >= bar else ""
            text.append(bare + number, style=_style(change))
        return text

    def to_pandas(self) -> "pandas.DataFrame":
        """One line per token: text, id, log p without and with the method, change, edits, share.

        Example:
            >>> from dspa_nn.evaluation import token_changes
            >>> (changes,) = token_changes(dspa, [dspa.render("hail", "sun moon")], None)
            >>> changes.to_pandas().columns.tolist()
            ['token', 'id', 'unsteered', 'steered', 'change', 'edits', 'share']
        """
        import pandas

        return pandas.DataFrame(
            {
                "token": self.tokens,
                "id": [int(token) for token in self.ids],
                "unsteered": self.unsteered,
                "steered": self.steered,
                "change": self.change,
                "edits": self.edits,
                "share": self.share,
            }
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        return self.marked().plain

    def __rich__(self) -> Text:
        return self.marked()


def _is_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _style(change: float) -> str:
    if abs(change) < COLOURED:
        return ""
    colour = "green" if change > 0 else "red"
    return f"bold {colour}" if abs(change) >= BOLD else colour
