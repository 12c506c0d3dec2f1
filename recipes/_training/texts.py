"""Preference triples as token ids: in the model's own chat format, or as Human and Assistant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
ROLES = {"user": "Human", "assistant": "Assistant", "system": "System"}


@dataclass(frozen=True)
class Ids:
    """A prompt and a response as token ids."""

    prompt: list[int]
    response: list[int]

    def cut(self, tokens: int) -> "Ids":
        """At most so many tokens: the response from its end, then the prompt from its beginning."""
        response = self.response[: tokens - 1]
        room = max(tokens - len(response), 1)
        return Ids(self.prompt[-room:], response)


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


def as_ids(tokenizer: Any, prompt: str, response: str) -> Ids:
    """A prompt with the default special tokens, and a response with the end-of-text token."""
    ends = tokenizer(response, add_special_tokens=False).input_ids
    return Ids(tokenizer(prompt).input_ids, [*ends, tokenizer.eos_token_id])


@dataclass(frozen=True)
class Contrast:
    """One response behind the instruction that goes with it, and behind the other."""

    own: Ids
    other: Ids


def contrasts(tokenizer: Any, triples: Iterable[PreferenceTriple], tokens: int) -> list[Contrast]:
    """Every triple twice: the chosen response with `GOOD`, the rejected one with `BAD`."""
    found: list[Contrast] = []
    for triple in triples:
        prompts = [dialogue(triple.messages, text) for text in (GOOD, BAD)]
        for response, own in ((triple.chosen, 0), (triple.rejected, 1)):
            pair = [as_ids(tokenizer, prompts[i], response).cut(tokens) for i in (own, 1 - own)]
            found.append(Contrast(*pair))
    return found


@dataclass(frozen=True)
class Stimuli:
    """One response behind the plain prompt, and behind the good and the bad instruction."""

    plain: Ids
    good: Ids
    bad: Ids


def stimuli(tokenizer: Any, triples: Iterable[PreferenceTriple], tokens: int) -> list[Stimuli]:
    """The chosen response of every triple behind each of the three prompts."""
    return [
        Stimuli(
            *(
                as_ids(tokenizer, dialogue(triple.messages, text), triple.chosen).cut(tokens)
                for text in ("", GOOD, BAD)
            )
        )
        for triple in triples
    ]


def demonstrations(tokenizer: Any, triples: Iterable[PreferenceTriple], tokens: int) -> list[Ids]:
    """The chosen response of every triple behind its prompt, as Human and Assistant."""
    return [
        as_ids(tokenizer, conversation(tokenizer, triple.messages), f" {triple.chosen}").cut(tokens)
        for triple in triples
    ]


def preferences(
    tokenizer: Any, triples: Iterable[PreferenceTriple], tokens: int
) -> list[dict[str, list[int]]]:
    """Prompt, chosen and rejected ids, rendered as DSPA renders them, with the end of the turn."""
    rows: list[dict[str, list[int]]] = []
    for triple in triples:
        fitted = render_to_fit(tokenizer, triple, tokens - 1, "truncate")
        if fitted.prompt is None:
            continue
        chosen, rejected = (
            [*map(int, end.response_ids), tokenizer.eos_token_id] for end in fitted.ends
        )
        prompt = [*map(int, fitted.prompt.prompt_ids)]
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    if not rows:
        raise TripleError(
            f"no triple fits {tokens} tokens; allow more with --max-tokens, or give shorter ones"
        )
    return rows
