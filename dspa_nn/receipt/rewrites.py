"""The same prompts put otherwise: simple rewrites, a context before them, or a user's own words."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, numbered_lines
from dspa_nn.triples import PreferenceTriple, Prompt, as_messages

# Of our own writing: it says nothing of any preference.
CONTEXT = (
    "Some notes from before, which need no answer. The library opens at nine and closes at six. "
    "The bus to the station leaves every twenty minutes from the stop across the street. Paper is "
    "kept in the second drawer, pens in the first. The meeting room was moved to the third floor, "
    "and its windows look out on the car park. The next message is what I write to you about."
)


@dataclass(frozen=True)
class Rewrite:
    """One way of putting prompts, and the held-out triples that it was found for.

    Attributes:
        name: in tables. about: what was done, in a sentence.
        triples: with their prompts rewritten, responses as they are.
        rows: of each, which held-out triple it is.
    """

    name: str
    about: str
    triples: list[PreferenceTriple]
    rows: list[int]


def simple_rewrites(triples: Sequence[PreferenceTriple]) -> list[Rewrite]:
    """The three rewrites that need no file: two ways of asking, and a context before the prompt.

    Example:
        >>> [one.name for one in simple_rewrites([PreferenceTriple("Hail?", "Yes.", "no")])]
        ['asked politely', '"Please answer:"', 'longer prompt']
    """
    ways: tuple[tuple[str, str, Callable[[str], str]], ...] = (
        (
            "asked politely",
            '"Hello! I would like to ask you something." before the last message, and "Thank you '
            'in advance." behind it.',
            lambda text: (
                f"Hello! I would like to ask you something. {text.strip()} Thank you in advance."
            ),
        ),
        (
            '"Please answer:"',
            '"Please answer:" before the last message.',
            lambda text: f"Please answer: {text.strip()}",
        ),
        (
            "longer prompt",
            "A paragraph of notes that have nothing to do with it before the last message.",
            lambda text: f"{CONTEXT}\n\n{text.strip()}",
        ),
    )
    rows = list(range(len(triples)))
    return [
        Rewrite(
            name,
            about,
            [replace(one, prompt=reworded(one.prompt, change)) for one in triples],
            rows,
        )
        for name, about, change in ways
    ]


def reworded(prompt: Prompt, change: Callable[[str], str]) -> Prompt:
    """A prompt with its last message, or its text, changed.

    Example:
        >>> reworded([{"role": "user", "content": "hail"}], str.upper)
        [{'role': 'user', 'content': 'HAIL'}]
    """
    if isinstance(prompt, str):
        return change(prompt)
    messages = [dict(message) for message in prompt]
    messages[-1]["content"] = change(messages[-1]["content"])
    return messages


def last_words(prompt: Prompt) -> str:
    """What a prompt says last, by which a paraphrase finds it.

    >>> last_words([{"role": "user", "content": " Hail? "}])
    'Hail?'
    """
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return str(text).strip()


def read_paraphrases(path: str | os.PathLike[str], triples: Sequence[PreferenceTriple]) -> Rewrite:
    """Paraphrases from JSON Lines: `prompt`, as in the triples, and `paraphrase`.

    Example:
        >>> row = {"prompt": "Hail?", "paraphrase": "Does it hail?"}
        >>> _ = as_path("other_words.jsonl").write_text(json.dumps(row))
        >>> read_paraphrases("other_words.jsonl", [PreferenceTriple("Hail?", "Yes.", "no")]).rows
        [0]

    A paraphrase of a chat prompt is a list of messages, or a text in place of the last message. Of
    a prompt with several, the first is taken.

    Raises:
        EvaluationError: a file that is missing or in another layout, or that has a paraphrase of
            none of the prompts, or of a prompt that prompt itself.
    """
    file = as_path(path)
    known: dict[str, Any] = {}
    lines = numbered_lines(file, "JSON Lines with prompt and paraphrase", EvaluationError)
    for where, line in lines:
        prompt, other = _pair(line, where)
        known.setdefault(prompt, other)
    rows = [row for row, one in enumerate(triples) if last_words(one.prompt) in known]
    if not rows:
        raise EvaluationError(
            f"{file.name} has {len(known)} paraphrases and none is of one of the {len(triples)} "
            "held-out prompts; give each with its prompt as it stands in the triples"
        )
    found = [replace(triples[row], prompt=_in_place(triples[row].prompt, known)) for row in rows]
    for row, one in zip(rows, found, strict=True):
        if _plain(one.prompt) == _plain(triples[row].prompt):
            raise EvaluationError(
                f"{file.name} has {last_words(one.prompt)!r} as its own paraphrase; say it in "
                "other words, or leave the line out"
            )
    asked = {last_words(one.prompt) for one in triples}
    about = f"Paraphrases from {file.name}, of {len(rows)} of the {len(triples)} prompts."
    others = sum(last_words(one.prompt) in asked for one in found)
    if others:
        about += f" {others} of them ask what another held-out triple asks."
    unused = len(known.keys() - asked)
    if unused:
        about += f" {unused} of the file are of no held-out prompt."
    return Rewrite("paraphrased", about, found, rows)


def _plain(prompt: Prompt) -> object:
    if isinstance(prompt, str):
        return prompt.strip()
    return [(message["role"], message["content"].strip()) for message in prompt]


def _in_place(prompt: Prompt, known: Mapping[str, Any]) -> Prompt:
    other = known[last_words(prompt)]
    return reworded(prompt, lambda _: other) if isinstance(other, str) else other


def _pair(line: str, where: str) -> tuple[str, Any]:
    try:
        loaded: Any = json.loads(line)
    except ValueError:
        raise EvaluationError(f"{where} is no JSON; give one paraphrase a line") from None
    row = cast(dict[str, Any], loaded if isinstance(loaded, dict) else {})
    if not row.get("prompt") or not row.get("paraphrase"):
        raise EvaluationError(
            f"{where} has {', '.join(row) or 'no keys'}; prompt and paraphrase were expected"
        )
    other: Any = row["paraphrase"]
    if not isinstance(other, str):
        other = [dict(message) for message in as_messages(other, "'paraphrase'")]
    prompt: Any = row["prompt"]
    return last_words(prompt if isinstance(prompt, str) else as_messages(prompt)), other
