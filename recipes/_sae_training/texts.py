"""Any text, as lists of token ids: preference triples, whole dialogues, plain text."""

import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspa_nn.errors import TripleError

Document = str | list[dict[str, str]]
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Source:
    """A file and which of its rows are read: `triples.jsonl@0:400`, `dialogues.jsonl.gz@:-300`.

    The part after the `@` is a Python slice over the file's rows; without it, all rows are read.
    """

    path: Path
    rows: slice

    @classmethod
    def parse(cls, text: str) -> "Source":
        name, at, span = text.rpartition("@")
        if not at or not re.fullmatch(r"-?\d*:-?\d*", span):
            return cls(Path(text), slice(None))
        start, stop = (int(part) if part else None for part in span.split(":"))
        return cls(Path(name), slice(start, stop))

    @property
    def label(self) -> str:
        """The file and its rows without any folder, as a model card may print it."""
        start, stop = self.rows.start, self.rows.stop
        if start is None and stop is None:
            return self.path.name
        return f"{self.path.name}@{'' if start is None else start}:{'' if stop is None else stop}"


def documents(source: Source) -> list[Document]:
    """Read a source: JSON Lines (gzip or not) of any known layout, else plain text.

    Plain text is cut at blank lines: each paragraph is a row.
    """
    name = source.path.name.removesuffix(".gz")
    opener = gzip.open if source.path.suffix == ".gz" else open
    with opener(source.path, "rt", encoding="utf-8") as file:
        if not name.endswith((".jsonl", ".json")):
            return [*[part for part in file.read().split("\n\n") if part.strip()][source.rows]]
        lines = [line for line in file if line.strip()][source.rows]
    texts: list[Document] = []
    for line in lines:
        texts.extend(_documents_of_row(json.loads(line), source))
    if not texts:
        raise TripleError(f"{source.label} holds no rows, and some text is needed; name other rows")
    return texts


def _documents_of_row(row: dict[str, Any], source: Source) -> Iterator[Document]:
    if isinstance(row.get("messages"), list):
        yield row["messages"]
    elif "prompt" in row and "chosen" in row:
        for key in ("chosen", "rejected"):
            if row.get(key):
                yield _messages(row["prompt"], "user") + _messages(row[key], "assistant")
    elif "chosen" in row:
        # A whole dialogue; the rejected one repeats all of it but the last turn.
        yield _dialogue(row["chosen"])
    elif isinstance(row.get("text"), str):
        yield row["text"]
    else:
        raise TripleError(
            f"a row of {source.label} has the keys {sorted(row)}, and one of 'messages', 'prompt' "
            "with 'chosen', 'chosen' or 'text' was expected; rename its keys"
        )


def _messages(value: str | list[dict[str, str]], role: str) -> list[dict[str, str]]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    # A chat list may repeat the prompt: of a response only its last message is taken.
    return value[-1:] if role == "assistant" else value


def _dialogue(value: str | list[dict[str, str]]) -> Document:
    if isinstance(value, list):
        return value
    parts = _TURN.split(value)
    if len(parts) < 3:
        return value
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": _ROLES[who], "content": said.strip()} for who, said in turns]


def opening(document: Document) -> str:
    """What a document begins with: its first message, or its first 200 characters."""
    return document[:200] if isinstance(document, str) else document[0]["content"].strip()


def without_openings_of(train: list[Document], held_out: Iterable[Document]) -> list[Document]:
    """Leave out the documents that begin as a held-out one does."""
    barred = {opening(document) for document in held_out}
    return [document for document in train if opening(document) not in barred]


def token_ids(texts: list[Document], tokenizer: Any, context: int, seed: int) -> list[list[int]]:
    """Tokenise in a random order fixed by the seed, at most `context` tokens to a sequence.

    Dialogues go through the chat template and are cut off; plain text is cut into windows.
    """
    order = list(texts)
    random.Random(seed).shuffle(order)
    rows: list[list[int]] = []
    for document in order:
        if isinstance(document, str):
            ids = tokenizer(document)["input_ids"]
            rows.extend(ids[start : start + context] for start in range(0, len(ids), context))
        else:
            ids = tokenizer.apply_chat_template(document, tokenize=True, return_dict=False)
            rows.append(list(ids[:context]))
    return [ids for ids in rows if len(ids) > 1]
