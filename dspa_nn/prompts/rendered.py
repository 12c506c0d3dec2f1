"""What the model sees of one prompt, and of a response joined to it: text, ids, kinds of token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from dspa_nn.errors import SteeringError, TripleError
from dspa_nn.graph.stand_ins import RENDERED_AS_TEXT
from dspa_nn.shipping import Reduced, Shipped, reduce_prompt


def is_batch(prompt: object) -> bool:
    """Whether these are several prompts: a list, and none of chat messages.

    >>> is_batch(["Hello", "Good day"]), is_batch([{"role": "user", "content": "Hello"}])
    (True, False)
    """
    if not isinstance(prompt, (list, tuple)):
        return False
    entries = cast(Sequence[object], prompt)
    return not (entries and isinstance(entries[0], Mapping))


@dataclass(frozen=True, eq=False, repr=False)
class Rendered(Shipped):
    """What the model sees of one prompt (and response): text, ids, and what each token is.

    >>> dspa.render([{"role": "user", "content": "Hello"}], "Hi!")
    Rendered: ... prompt tokens (5 content, ... markup, ... BOS), 3 response tokens
    ...
    content ...  'Hello'
    markup  ...
    response ... 'Hi!'

    Attributes:
        text: the text behind `ids`, special tokens that the tokenizer adds included.
        ids: prompt ids, then response ids if any.
        prompt_length: tokens of the prompt, BOS included.
        content: True on prompt tokens of the messages' own text; a string prompt is content
            throughout.
        has_bos: whether position 0 holds the tokenizer's `bos_token_id`; it never counts.
        pieces: runs of tokens of one kind, as `show` prints them: kind, first token, text.
    """

    text: str
    ids: Int64[Tensor, " tokens"]
    prompt_length: int
    content: Bool[Tensor, " prompt"]
    has_bos: bool = False
    pieces: tuple[tuple[str, int, str], ...] = ()

    def counted(self, prompt_tokens: str) -> Bool[Tensor, " prompt"]:
        """Return the prompt tokens that count in densities; a leading BOS never does.

        >>> prompt.counted("all").shape == prompt.prompt_ids.shape
        True

        prompt_tokens: "content" or "all" (docs/method.md 5).

        Raises:
            TripleError: another word.
        """
        if prompt_tokens not in ("content", "all"):
            raise TripleError(
                f"prompt_tokens={prompt_tokens!r} came, where 'content' or 'all' was expected: "
                "give one of the two"
            )
        mask = self.content if prompt_tokens == "content" else torch.ones_like(self.content)
        mask = mask.clone()
        if self.has_bos:
            mask[0] = False
        return mask

    @property
    def prompt_ids(self) -> Int64[Tensor, " prompt"]:
        """The prompt's ids alone."""
        return self.ids[: self.prompt_length]

    @property
    def response_ids(self) -> Int64[Tensor, " response"]:
        """The response's ids alone; empty where only a prompt was rendered."""
        return self.ids[self.prompt_length :]

    def show(self) -> str:
        """Return a table for a person: kind, first and last token, text of each run of tokens."""
        starts = [start for _, start, _ in self.pieces] + [len(self.ids)]
        lines = [
            f"{kind:<8} {f'{start}-{end - 1}':>9}  {text!r}"
            for (kind, start, text), end in zip(self.pieces, starts[1:], strict=True)
        ]
        return "\n".join([self._summary(), *lines])

    def _summary(self) -> str:
        content = int(self.counted("content").sum())
        markup = self.prompt_length - content - self.has_bos
        return (
            f"Rendered: {self.prompt_length} prompt tokens ({content} content, {markup} markup, "
            f"{int(self.has_bos)} BOS), {len(self.response_ids)} response tokens"
        )

    def __repr__(self) -> str:
        return self.show()

    def __radd__(self, _: object) -> str:
        # What a tokenizer does with a prompt that nnsight takes for text.
        raise SteeringError(RENDERED_AS_TEXT)

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_prompt(self, self.prompt_ids, self.content)
