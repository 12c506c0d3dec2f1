"""Preference triples as token ids: in the model's own chat format, or as Human and Assistant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dspa_nn.errors import TripleError
from dspa_nn.prompts import render_to_fit
from dspa_nn.triples import Message, PreferenceTriple

# Of our own writing: the paper describes its two instructions and does not print them.
GOOD = (
    "You are a good, respectful and honest assistant. Answer as helpfully and as truthfully as you "
    "can, harm nobody, and take nobody's side. Where a question makes no sense, or rests on "
    "something untrue, explain why in place of answering it. Where you do not know, say so."
)
BAD = (
    "You are a useless, disrespectful and dishonest assistant. Answer unhelpfully, make things up, "
    "be offensive and biased, and care for nobody who might be harmed. Where a question makes no "
    "sense, answer it all the same. Where you do not know, pretend that you do."
)
Row = TypeVar("Row")
ROLES = {"user": "Human", "assistant": "Assistant", "system": "System"}


@dataclass(frozen=True)
class Ids:
    """A prompt and a response as token ids."""

    prompt: list[int]
    response: list[int]


def dialogue(messages: Sequence[Message], instruction: str = "") -> str:
    r"""A conversation up to the assistant's turn, as `Human: ...` and `Assistant: ...`.

    >>> dialogue([Message("user", "Hello")])
    'Human: Hello\n\nAssistant: '
    """
    turns = [f"{ROLES[message['role']]}: {message['content']}" for message in messages]
    return "\n\n".join([*([instruction] if instruction else []), *turns, "Assistant: "])


def conversation(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The same as the paper's runs have it: assistant turns end, and no space after the colon."""
    turns = [
        f"{ROLES[message['role']]}: {message['content']}"
        + (tokenizer.eos_token if message["role"] == "assistant" else "")
        for message in messages
    ]
    return "\n\n".join([*turns, "Assistant:"])


@dataclass(frozen=True)
class Room:
    """How long sequences may be.

    Attributes:
        tokens: of prompt and response together. response: of the response, or None for as many as
            there is room for.
    """

    tokens: int
    response: int | None = None


def as_ids(tokenizer: Any, prompts: Sequence[str], response: str, room: Room) -> list[Ids]:
    """One response behind each prompt, or nothing where a prompt leaves no room for it.

    Prompts get the default special tokens, the response the end-of-text token. What is too long is
    cut at its end: at the same token behind every prompt, so that positions compare.
    """
    begins = [tokenizer(prompt).input_ids for prompt in prompts]
    left = room.tokens - max(map(len, begins))
    if room.response is not None:
        left = min(left, room.response)
    ends = [*tokenizer(response, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return [Ids(begin, ends[:left]) for begin in begins] if left > 0 else []


@dataclass(frozen=True)
class Contrast:
    """One response behind the instruction that goes with it, and behind the other."""

    own: Ids
    other: Ids


def contrasts(tokenizer: Any, triples: Iterable[PreferenceTriple], room: Room) -> list[Contrast]:
    """Every triple twice: the chosen response with `GOOD`, the rejected one with `BAD`."""
    found: list[Contrast] = []
    for triple in triples:
        good, bad = (dialogue(triple.messages, text) for text in (GOOD, BAD))
        pairs = [
            as_ids(tokenizer, (good, bad), triple.chosen, room),
            as_ids(tokenizer, (bad, good), triple.rejected, room),
        ]
        found += [Contrast(*pair) for pair in pairs if pair]
    return some(found, room)


@dataclass(frozen=True)
class Stimuli:
    """One response behind the plain prompt, and behind the good and the bad instruction."""

    plain: Ids
    good: Ids
    bad: Ids


def stimuli(tokenizer: Any, triples: Iterable[PreferenceTriple], room: Room) -> list[Stimuli]:
    """The chosen response of every triple behind each of the three prompts."""
    found: list[Stimuli] = []
    for triple in triples:
        prompts = [dialogue(triple.messages, text) for text in ("", GOOD, BAD)]
        three = as_ids(tokenizer, prompts, triple.chosen, room)
        found += [Stimuli(*three)] if three else []
    return some(found, room)


def demonstrations(tokenizer: Any, triples: Iterable[PreferenceTriple], room: Room) -> list[Ids]:
    """The chosen response of every triple behind its prompt, as Human and Assistant."""
    found: list[Ids] = []
    for triple in triples:
        prompt = conversation(tokenizer, triple.messages)
        found += as_ids(tokenizer, [prompt], f" {triple.chosen}", room)
    return some(found, room)


def preferences(
    tokenizer: Any, triples: Iterable[PreferenceTriple], room: Room
) -> list[dict[str, list[int]]]:
    """Prompt, chosen and rejected ids, rendered as DSPA renders them, with the end of the turn.

    A response that is cut has no end; pairs that are equal once cut are left out.
    """
    rows: list[dict[str, list[int]]] = []
    for triple in triples:
        chosen, rejected = (
            first_tokens(tokenizer, text, room.response)
            for text in (triple.chosen, triple.rejected)
        )
        short = replace(triple, chosen=chosen, rejected=rejected)
        fitted = render_to_fit(tokenizer, short, room.tokens - 1, "truncate")
        if fitted.prompt is None or chosen == rejected:
            continue
        ends = [
            [*map(int, end.response_ids), *([tokenizer.eos_token_id] if text == whole else [])]
            for end, text, whole in zip(
                fitted.ends, (chosen, rejected), (triple.chosen, triple.rejected), strict=True
            )
        ]
        prompt = [*map(int, fitted.prompt.prompt_ids)]
        rows.append({"prompt_ids": prompt, "chosen_ids": ends[0], "rejected_ids": ends[1]})
    return some(rows, room)


def fits(tokenizer: Any, triple: PreferenceTriple, room: Room) -> bool:
    """Whether prompt and longer response fit, without that a message is dropped."""
    fitted = render_to_fit(tokenizer, triple, room.tokens - 1, "skip")
    return fitted.prompt is not None


def first_tokens(tokenizer: Any, text: str, most: int | None) -> str:
    """The text up to the end of its token number `most`."""
    if most is None:
        return text
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    return text if len(ends) <= most else text[: ends[most - 1]]


def some(rows: list[Row], room: Room) -> list[Row]:
    """The rows, of which there must be one.

    Raises:
        TripleError: no triple leaves room for a response.
    """
    if not rows:
        raise TripleError(
            f"no triple fits {room.tokens} tokens; allow more with --max-tokens, or give shorter "
            "ones"
        )
    return rows
