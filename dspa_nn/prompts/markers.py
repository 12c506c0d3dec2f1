"""What a chat template writes around each message, learned from renderings of sentinels.

No family of templates is known here by name. Short conversations of all roles, in every order that
the template takes, are rendered with a sentinel in place of each text; what stands before, between
and after the sentinels are the template's markers.
"""

import re
from datetime import date
from itertools import product
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from dspa_nn.errors import TripleError
from dspa_nn.prompts.dates import asks_for_date, rendering_date
from dspa_nn.prompts.formats import written_as_text
from dspa_nn.prompts.markup import markup_in
from dspa_nn.prompts.templates import Ending, chat_template, render_text, unused_word
from dspa_nn.triples import Message

_T = TypeVar("_T")
ROLES = ("system", "user", "assistant", "tool")
# Messages of a conversation that is rendered to learn from: markers depend on what comes before.
_LONGEST = 3


class Markers(NamedTuple):
    """What a template writes around messages, longest first; roles are those of the messages.

    >>> set(markers_of(tokenizer).starts.values()) <= set(ROLES)
    True

    Attributes:
        starts: what stands before the first message: marker, and that message's role.
        between: of a message's role, what stands between it and the next: marker, and next role.
        ends: of the last message's role, what stands after it: marker, and how the text ends.
        vague: markers between messages that are plain text, which a message may hold as well.
    """

    starts: dict[str, str]
    between: dict[str, dict[str, str]]
    ends: dict[str, dict[str, Ending]]
    vague: frozenset[str]


_known: "WeakKeyDictionary[Any, tuple[object, Markers | None]]" = WeakKeyDictionary()


def markers_of(tokenizer: Any) -> Markers | None:
    """The markers of a tokenizer's chat template, or None where it has no template of its own.

    >>> markers_of(tokenizer) is markers_of(tokenizer)      # learned once
    True

    Raises:
        TripleError: a tokenizer that writes chats by code.
    """
    template = chat_template(tokenizer)
    day = rendering_date() or str(date.today()) if asks_for_date(template) else None
    known = _known.get(tokenizer)
    if known is None or known[0] != (template, day):
        markers = None if written_as_text(template) else _learned(tokenizer, template)
        known = (template, day), markers
        _known[tokenizer] = known
    return known[1]


def _learned(tokenizer: Any, template: str) -> Markers:
    starts: dict[str, str] = {}
    between: dict[str, dict[str, str]] = {}
    ends: dict[str, dict[str, Ending]] = {}
    switches = (None, False, True) if "enable_thinking" in template else (None,)
    for length in range(1, _LONGEST + 1):
        for roles in product(ROLES, repeat=length):
            for header, thinking in product((True, False), switches):
                ending = Ending(header=header, thinking=thinking)
                pieces = _pieces(tokenizer, template, roles, ending)
                if pieces is None:
                    break  # what the template refuses, it refuses with any ending
                starts.setdefault(pieces[0], roles[0])
                for role, marker, after in zip(roles, pieces[1:-1], roles[1:], strict=False):
                    between.setdefault(role, {}).setdefault(marker, after)
                ends.setdefault(roles[-1], {}).setdefault(pieces[-1], ending)
    markers = {marker for known in between.values() for marker in known}
    vague = frozenset(marker for marker in markers if not markup_in(tokenizer, marker))
    return Markers(
        _longest_first(starts),
        {role: _longest_first(known) for role, known in between.items()},
        {role: _longest_first(known) for role, known in ends.items()},
        vague,
    )


def _pieces(
    tokenizer: Any, template: str, roles: tuple[str, ...], ending: Ending
) -> list[str] | None:
    """What stands around the messages, or None where each does not stand once and in its order."""
    word = unused_word(template, *ROLES)
    messages = tuple(Message(role, f"{word}{number}z") for number, role in enumerate(roles))
    try:
        text = render_text(tokenizer, template, messages, ending)
    except TripleError:
        return None
    pieces = re.split(f"{word}([0-9]+)z", text)
    in_order = pieces[1::2] == [str(number) for number in range(len(roles))]
    return pieces[::2] if in_order else None


def _longest_first(markers: dict[str, _T]) -> dict[str, _T]:
    return dict(sorted(markers.items(), key=lambda item: -len(item[0])))
