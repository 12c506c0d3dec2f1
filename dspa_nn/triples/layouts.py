"""One row of preference data, in any layout in use, to one triple."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dspa_nn.errors import TripleError
from dspa_nn.triples.cells import as_cell
from dspa_nn.triples.triple import Message, PreferenceTriple, as_messages

KNOWN = (
    "'prompt', 'chosen' and 'rejected' as strings or lists of chat messages; 'chosen' and "
    "'rejected' as lists of chat messages that open alike; or as whole dialogues that open with "
    "'Human:' and have 'Assistant:' turns"
)
# Why a row can be left out; with strict=True each is an error instead.
EQUAL = "chosen equals rejected"
DIVERGED = "prompts of chosen and rejected differ"
EMPTY = "empty last turn"

_KEYS: tuple[str, ...] = ("prompt", "chosen", "rejected")
_TURN = re.compile(r"(?:^\s*|\n\n)(Human|Assistant):")
_OPENING = re.compile(r"\s*Human:")
_LAST = "\n\nAssistant:"
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Skipped(Exception):
    """A row to be left out and counted; its message is the reason."""


def read_row(row: Any, chat: bool) -> PreferenceTriple:
    """Turn one row into a triple, or say why not.

    >>> read_row({"prompt": "Is it raining?", "chosen": "Yes.", "rejected": "eh"}, chat=True)
    PreferenceTriple(prompt=({'role': 'user', 'content': 'Is it raining?'},), chosen='Yes.', ...)

    Args:
        row: a mapping, a (prompt, chosen, rejected) tuple or list, or a triple.
        chat: lift a string prompt to one user message, and a whole dialogue to messages.

    Raises:
        TripleError: a row of no known layout, or with an empty or wrongly typed field.
        Skipped: chosen equals rejected; what precedes the responses differs; a last turn is empty.
    """
    kind = type(row).__name__
    if isinstance(row, PreferenceTriple):
        prompt, chosen, rejected = row.prompt, row.chosen, row.rejected
    elif isinstance(row, (tuple, list)) and len(cast(Sequence[Any], row)) == 3:
        fields: dict[str, Any] = dict(zip(_KEYS, cast(Sequence[Any], row), strict=True))
        prompt, chosen, rejected = _read_fields(fields)
    elif isinstance(row, Mapping):
        prompt, chosen, rejected = _read_fields(cast(Mapping[str, Any], row))
    else:
        raise TripleError(
            f"a row of type {kind} came, where a dict, a (prompt, chosen, rejected) "
            "tuple or a PreferenceTriple was expected: convert it first"
        )
    if chat and isinstance(prompt, str):
        prompt, chosen, rejected = _as_chat(prompt, chosen, rejected)
    triple = PreferenceTriple(prompt, chosen, rejected)
    if triple.chosen == triple.rejected:
        raise Skipped(EQUAL)
    return triple


def _read_fields(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    row = {**row, **{key: as_cell(row[key]) for key in _KEYS if key in row}}
    # A column that only other rows fill comes as None from Parquet and from `datasets`.
    present = [key for key in _KEYS if row.get(key) is not None]
    missing = [key for key in ("chosen", "rejected") if key not in present]
    if missing:
        null = [key for key in missing if key in row]
        raise TripleError(
            f"{' and '.join(map(repr, missing))} {'is null' if null else 'is missing'} in a row "
            f"with the keys {_keys(row)}, where both responses were expected: rename the columns, "
            f"or leave the row out (known layouts: {KNOWN})"
        )
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    kinds: set[type] = {type(chosen), type(rejected)}
    if kinds == {list}:
        return _read_lists(row, prompt, chosen, rejected)
    if kinds != {str}:
        raise _unknown(row, "and 'chosen' and 'rejected' are neither two strings nor two lists")
    dialogues = [bool(_OPENING.match(text)) and _LAST in text for text in (chosen, rejected)]
    if prompt is None and all(dialogues):
        return _read_dialogues(chosen, rejected)
    if prompt is None:
        raise _unknown(row, "and 'chosen' and 'rejected' are strings that are no dialogues")
    if all(dialogues):
        raise _unknown(row, "and 'chosen' and 'rejected' are whole dialogues beside a 'prompt'")
    return prompt, chosen, rejected


def _read_lists(row: Mapping[str, Any], prompt: Any, *ends: list[Any]) -> tuple[Any, Any, Any]:
    """Read responses that are message lists: their last message, after what both share."""
    keys = ("chosen", "rejected")
    chats = [as_messages(end, repr(key)) for key, end in zip(keys, ends, strict=True)]
    for key, chat in zip(keys, chats, strict=True):
        if chat[-1]["role"] != "assistant":
            raise TripleError(
                f"the last message of {key!r} is of the role {chat[-1]['role']!r}, where "
                "'assistant' was expected, since it is the response: cut the messages after it"
            )
    before = [chat[:-1] for chat in chats]
    if before[0] != before[1]:
        raise Skipped(DIVERGED)
    if isinstance(prompt, list):
        given = as_messages(cast(object, prompt))
        # Some data sets give the prompt alone, and once more in front of each response.
        if before[0] not in ((), given):
            raise _unknown(row, "and 'chosen' holds messages before its last that are no 'prompt'")
        prompt = given
    elif before[0]:
        prompt = before[0]
    elif prompt is None:
        raise _unknown(row, "and the lists hold the response alone")
    if not all(chat[-1]["content"].strip() for chat in chats):
        raise Skipped(EMPTY)
    return prompt, chats[0][-1]["content"], chats[1][-1]["content"]


def _read_dialogues(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Cut two dialogues, as HH-RLHF has them, at the last Assistant turn; no character is lost."""
    (before, cut, good), (other, _, bad) = chosen.rpartition(_LAST), rejected.rpartition(_LAST)
    if before != other:
        raise Skipped(DIVERGED)
    if not (good.strip() and bad.strip()):
        raise Skipped(EMPTY)
    return before + cut, good, bad


def _as_chat(prompt: str, *ends: Any) -> tuple[Any, ...]:
    """Lift a string prompt to messages: one a turn where it is a dialogue, else one in all."""
    if not (_OPENING.match(prompt) and prompt.rstrip().endswith(_LAST)):
        return (Message("user", prompt),), *ends
    pieces = _TURN.split(prompt.rstrip().removesuffix(_LAST))
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    messages = tuple(Message(_ROLES[who], text.strip()) for who, text in turns)
    # The space after "Assistant:" is the dialogue's markup, which a template replaces.
    return messages, *(end.strip() if isinstance(end, str) else end for end in ends)


def _unknown(row: Mapping[str, Any], why: str) -> TripleError:
    kinds = ", ".join(f"{key!r} ({type(row[key]).__name__})" for key in _KEYS if key in row)
    return TripleError(
        f"a row with the keys {_keys(row)} came, of which {kinds} were read, {why}, where one of "
        f"the known layouts was expected ({KNOWN}): give the prompt and the two responses apart"
    )


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in row) or "(none)"
