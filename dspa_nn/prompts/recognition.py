"""A chat prompt that comes as ids alone: its messages are read back, and rendered again.

The ids are decoded and cut at the template's own markers (`markers.py`). What is found counts only
where the messages, rendered again, give the same ids one by one: then content is known by
construction, as it is for a prompt that was rendered here (docs/method.md 5).
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from dspa_nn.errors import DSPAError
from dspa_nn.prompts.markers import Markers, markers_of
from dspa_nn.prompts.markup import markup_in
from dspa_nn.prompts.rendered import Rendered
from dspa_nn.prompts.rendering import render_messages
from dspa_nn.prompts.templates import CONTINUED, Ending
from dspa_nn.triples import Message

Conversation = tuple[tuple[Message, ...], Ending]
# Ways to read one text that are looked at; more than one differ by plain-text markers alone.
_MOST_READINGS = 16


def recognised(tokenizer: Any, ids: Int64[Tensor, " tokens"]) -> Rendered | None:
    """The chat prompt behind ids, or None where no messages give just these ids.

    >>> prompt = dspa.render([{"role": "user", "content": "Hello"}])
    >>> found = recognised(tokenizer, prompt.ids)
    >>> torch.equal(found.ids, prompt.ids), torch.equal(found.content, prompt.content)
    (True, True)
    >>> recognised(tokenizer, prompt.ids[:-1]) is None
    True

    Messages with or without the header of the answer are found, with thinking on or off, and such
    as end in a text to be continued. A text in which the template's markup stands is not: whether
    it was one message or several cannot be told from ids. Where two readings give the same ids and
    disagree about what is content, neither is taken.

    ids: real tokens of one prompt, without padding.
    """
    try:
        markers = markers_of(tokenizer)
        return None if markers is None else _recognised(tokenizer, markers, ids.cpu())
    except (DSPAError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # Tokenizers and templates of all kinds come here, and to know nothing is always right.
        return None


def content_of(tokenizer: Any, ids: Int64[Tensor, " tokens"]) -> Bool[Tensor, " tokens"] | None:
    """Which tokens of a chat prompt that comes as ids are content, or None where that is unknown.

    >>> content_of(tokenizer, torch.tensor([7, 8, 9])) is None
    True
    """
    found = recognised(tokenizer, ids)
    return None if found is None else found.content


def _recognised(tokenizer: Any, markers: Markers, ids: Tensor) -> Rendered | None:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, **_AS_IT_STANDS)
    found: list[Rendered] = []
    for number, (messages, ending) in enumerate(_readings(markers, text)):
        if number == _MOST_READINGS:
            return None
        contents = [message["content"] for message in messages]
        if markup_in(tokenizer, *contents):
            continue
        rendered = _rendered_as(tokenizer, messages, ending, ids)
        if rendered is None:
            continue
        if any(marker in content for marker in markers.vague for content in contents):
            return None
        found.append(rendered)
    # Readings come with the longest markers first: a text that the template writes by itself, as a
    # default system message, is the template's, and the others have at least as much content.
    best = found[0] if found else None
    if any(bool((best.content & ~other.content).any()) for other in found if best is not None):
        return None
    return best


_AS_IT_STANDS = {"clean_up_tokenization_spaces": False, "spaces_between_special_tokens": False}


def _rendered_as(
    tokenizer: Any, messages: tuple[Message, ...], ending: Ending, ids: Tensor
) -> Rendered | None:
    """The rendering of these messages where it gives just these ids."""
    try:
        rendered = render_messages(tokenizer, messages, ending)
    except DSPAError:
        return None
    return rendered if torch.equal(rendered.ids, ids) else None


def _readings(markers: Markers, text: str) -> Iterator[Conversation]:
    """Conversations that a text may be, by its markers; the longest markers first."""
    for start, role in markers.starts.items():
        if text.startswith(start):
            yield from _read_on(markers, text, len(start), role, start, ())


def _read_on(
    markers: Markers, text: str, at: int, role: str, opened: str, before: tuple[Message, ...]
) -> Iterator[Conversation]:
    """Read on from where a message of this role begins, after the marker that opened it."""
    places = [
        (place, -len(marker), marker)
        for marker in markers.between.get(role, {})
        if (place := text.find(marker, at)) >= 0
    ]
    nearest, _, marker = min(places, default=(len(text), 0, ""))
    for end, ending in markers.ends.get(role, {}).items():
        last = len(text) - len(end)
        if at <= last <= nearest and text.endswith(end):
            yield (*before, Message(role, text[at:last])), ending
    if marker:
        # A marker of plain text is none to go by: the message may hold it.
        if marker not in markers.vague:
            messages = (*before, Message(role, text[at:nearest]))
            after = markers.between[role][marker]
            yield from _read_on(markers, text, nearest + len(marker), after, marker, messages)
    elif role == "assistant" and text[at:] and not _begins_an_end(markers, opened + text[at:]):
        yield (*before, Message(role, text[at:])), CONTINUED


def _begins_an_end(markers: Markers, text: str) -> bool:
    """Whether a text is the beginning of a header, cut off, rather than of an answer."""
    return any(end.startswith(text) for known in markers.ends.values() for end in known)
