"""Where in a rendered conversation each message's own text lies.

The template is rendered a second time with a sentinel in place of each content. What it writes
between the sentinels are the literal pieces; pieces and contents, laid end to end, must give the
real rendering to the character, and then lengths alone say where each content is.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from dspa_nn.errors import TripleError
from dspa_nn.prompts.templates import ANSWERED, Ending, render_text, roles_of, unused_word
from dspa_nn.triples import Message

# Outer whitespace around a sentinel, to see what the template strips: `strip()` takes it all,
# `strip("\n")` all but the em space. So many newlines are not taken for the template's own.
_NEWLINES, _SPACE = "\n" * 7, "\u2003"


def content_spans(
    tokenizer: Any, template: str, messages: tuple[Message, ...], ending: Ending = ANSWERED
) -> tuple[str, list[tuple[int, int]]]:
    r"""Return the rendered text and the (first, last + 1) characters of each non-empty content.

    >>> from dspa_nn.prompts import PLAIN_TEMPLATE
    >>> messages = (Message("user", " Hello "),)
    >>> text, spans = content_spans(tokenizer, PLAIN_TEMPLATE, messages)
    >>> text, [text[first:last] for first, last in spans]
    ('User:\n Hello \n\nAssistant:\n', [' Hello '])

    Contents may hold anything, the template's own markup and the sentinels included: nothing is
    searched for in the real rendering. They come in the order in which the template writes them,
    twice where it writes them twice.

    Raises:
        TripleError: the template refuses the messages, leaves one out, or rewrites its text.
    """
    text = render_text(tokenizer, template, messages, ending)
    sentinel = unused_word(template, *(message["role"] for message in messages))
    # An empty content stays so: templates write other markup for it, and it has no characters.
    probes = tuple(
        Message(m["role"], f"{_NEWLINES}{_SPACE}{sentinel}{number}z{_SPACE}{_NEWLINES}")
        if m["content"]
        else m
        for number, m in enumerate(messages)
    )
    skeleton = render_text(tokenizer, template, probes, ending)
    matches = re.finditer(
        f"(?P<left>(?:{_NEWLINES})?{_SPACE})?{sentinel}(?P<number>[0-9]+)z"
        f"(?P<right>{_SPACE}(?:{_NEWLINES})?)?",
        skeleton,
    )
    built, done = "", 0
    spans: list[tuple[int, int]] = []
    seen: set[int] = set()
    for match in matches:
        number = int(match["number"])
        content = messages[number]["content"]
        if not match["left"]:
            content = content.lstrip()
        elif match["left"] == _SPACE:
            content = content.lstrip("\n")
        if not match["right"]:
            content = content.rstrip()
        elif match["right"] == _SPACE:
            content = content.rstrip("\n")
        built += skeleton[done : match.start()]
        spans.append((len(built), len(built) + len(content)))
        built += content
        seen.add(number)
        done = match.end()
    for number, message in enumerate(messages):
        if message["content"] and number not in seen:
            raise TripleError(
                f"the chat template leaves out message {number} (role {message['role']!r}) of "
                f"the roles {roles_of(messages)}, where each was expected in the text: "
                "leave that message out yourself"
            )
    if built + skeleton[done:] != text:
        raise TripleError(
            f"the chat template rewrites the text of messages of the roles {roles_of(messages)}, "
            "where each was expected as it stands or trimmed: give them as the template writes "
            "them (reasoning left out of earlier turns, for one)"
        )
    if ending.continued:
        text = text[: spans[-1][1]]
    return text, [(first, last) for first, last in spans if last > first]


def overlaps(
    tokens: list[str], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> Iterator[bool]:
    """Yield for each token whether it shares a character with one of the spans."""
    covered = 0
    for token, (start, end) in zip(tokens, offsets, strict=True):
        # Llama 3 and GPT-2 leave a token's leading spaces out of its offsets: give them back.
        spaces = len(token) - len(token.lstrip("Ġ"))
        start = max(min(start, covered), start - spaces)
        covered = max(covered, end)
        yield any(start < last and end > first for first, last in spans)


def piecewise(
    tokenizer: Any, text: str, spans: list[tuple[int, int]], whole: list[int]
) -> list[bool]:
    """Tell content from markup without offsets: exact, where no token runs across a border."""
    borders = [0, *(border for span in spans for border in span), len(text)]
    ids: list[int] = []
    content: list[bool] = []
    for number, (first, last) in enumerate(pairwise(borders)):
        piece = tokenizer(text[first:last], add_special_tokens=False).input_ids
        ids += piece
        content += [number % 2 == 1] * len(piece)
    if ids != whole:
        raise TripleError(
            "the tokenizer is a slow one, without offsets, and its tokens run across the border "
            "of a message's text, where content must be told from markup: load the fast "
            "tokenizer of this model, or give the prompt as a string"
        )
    return content
