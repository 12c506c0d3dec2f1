"""Prompt engineering: an instruction in front of the prompt, and the model as it is."""

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Int64
from nnsight.modeling.transformers import TransformersModel
from torch import Tensor

from dspa_nn.baselines.inserted import Inserted, place_of
from dspa_nn.baselines.subject import Subject, as_subject
from dspa_nn.checks import check_type
from dspa_nn.counts import takes_positions
from dspa_nn.errors import FileError, SteeringError
from dspa_nn.files import as_path, on_disk, write_atomically
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, hooked_module

SCHEMA = "dspa_nn.instruction"
# Of our own writing: the paper gives no wording.
INSTRUCTION = (
    "Answer the message below as a good assistant would: be helpful, truthful and polite, keep to "
    "what was asked, explain what is needed to follow, and say so where you are not sure."
)


@dataclass(frozen=True)
class Instruction:
    """The words of a `PromptPrefix`, on disk.

    Example:
        >>> Instruction("Be brief.").save("instruction")
        >>> Instruction.load("instruction").text
        'Be brief.'
    """

    text: str
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `instruction.json`, whole or not at all.

        Raises:
            FileError: a full disk or a read-only folder; what was there stays.
        """
        body = {
            "schema": SCHEMA,
            "version": 1,
            "text": self.text,
            "provenance": dict(self.provenance),
        }
        write_atomically(as_path(folder) / "instruction.json", json.dumps(body, indent=1))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Instruction":
        """Read what `save` wrote.

        Raises:
            FileError: a file that is missing, or is none of these.
        """
        path = as_path(on_disk(folder)) / "instruction.json"
        try:
            body: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileError(
                f"{path} cannot be read ({error}); save the instruction again"
            ) from None
        known = cast(dict[str, Any], body if isinstance(body, dict) else {})
        if known.get("schema") != SCHEMA or known.get("version") != 1:
            raise FileError(
                f"{path} has schema {known.get('schema')!r}, expected {SCHEMA!r}, version 1; check "
                "the path"
            )
        text, provenance = known.get("text"), known.get("provenance", {})
        if not isinstance(text, str) or not isinstance(provenance, dict):
            raise FileError(f"{path} holds no text of an instruction; save the instruction again")
        return cls(text, cast(dict[str, Any], provenance))


@dataclass(frozen=True)
class PromptPrefix:
    """An instruction in front of the prompt, as a `SteeringMethod`.

    Example:
        >>> method = PromptPrefix("prompt prefix", Subject(dspa), "Be kind.")
        >>> with method.steering([prompt]):
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=3)
        >>> torch.equal(ids[0, :len(prompt.ids)], prompt.ids)
        True

    The instruction's tokens and an empty line are put before the first content token of each
    prompt, which is in its first message, behind the template's own markup. Inside the context the
    model is called with the prompts as they are, and answers as if they had the instruction: what
    it returns has the rows that it was given. In a block of nnsight's, run `rewrite(prompt).ids`.

    Attributes:
        name: a few words for a table.
        subject: the model.
        instruction: the words.
    """

    name: str
    subject: Subject = field(repr=False)
    instruction: str = INSTRUCTION

    def __post_init__(self) -> None:
        check_type("instruction", self.instruction, str, SteeringError)
        if not self.instruction.strip():
            raise SteeringError("the instruction is empty; give some words")

    @property
    def ids(self) -> Int64[Tensor, " tokens"]:
        """The tokens that are put in."""
        tokenizer: Any = self.subject.facts.tokenizer
        text = self.instruction.rstrip() + "\n\n"
        return torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)

    def rewrite(self, prompt: Rendered) -> Rendered:
        """The prompt with the instruction in it; a response stays joined.

        Example:
            >>> method = PromptPrefix("prompt prefix", Subject(dspa), "Be kind.")
            >>> method.rewrite(prompt).prompt_length - prompt.prompt_length
            10
        """
        own, place = self.ids, place_of(prompt)
        text = self.instruction.rstrip() + "\n\n"
        shifted = [
            (kind, start + len(own) if start >= place else start, words)
            for kind, start, words in prompt.pieces
        ]
        before = [piece for piece in shifted if piece[1] < place]
        after = [piece for piece in shifted if piece[1] >= place]
        return replace(
            prompt,
            text=prompt.text[: _length(before)] + text + prompt.text[_length(before) :],
            ids=torch.cat([prompt.ids[:place], own, prompt.ids[place:]]),
            prompt_length=prompt.prompt_length + len(own),
            content=torch.cat(
                [
                    prompt.content[:place],
                    torch.ones_like(own, dtype=torch.bool),
                    prompt.content[place:],
                ]
            ),
            pieces=(*before, ("content", place, text), *after),
        )

    @contextmanager
    def steering(self, prompts: Sequence[Rendered]) -> Generator[None]:
        """Let the Hugging Face model behind `subject.model` read the instruction in each prompt.

        Raises:
            SteeringError: rows that are not those of the prompts, or a cache that is not empty.
        """
        check_outside_blocks("steering")
        module = hooked_module(self.subject.model)
        inside = Inserted(module, list(prompts), self.ids, takes_positions(self.subject.model))
        handles = [
            module.register_forward_pre_hook(inside.before, with_kwargs=True),
            module.register_forward_hook(inside.after, with_kwargs=True),
        ]
        before = cast(dict[str, Any], vars(module)).get("generate")
        inside.go_on = before or inside.go_on
        module.generate = inside.generate
        try:
            yield None
        finally:
            del module.generate
            if before is not None:
                module.generate = before
            for handle in handles:
                handle.remove()


def fit_prefix(model: Subject | DSPA | TransformersModel, text: str = INSTRUCTION) -> Instruction:
    """The instruction with the model's identity; nothing is fitted."""
    check_type("text", text, str, SteeringError)
    subject = as_subject(model)
    return Instruction(text, {"model_id": subject.facts.model_id})


def _length(pieces: Sequence[tuple[str, int, str]]) -> int:
    return sum(len(words) for _, _, words in pieces)
