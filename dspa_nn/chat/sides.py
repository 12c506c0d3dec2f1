"""One side of the talk, steered or not: here with its cache kept, or on NDIF."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from dspa_nn.errors import SteeringError
from dspa_nn.files import write_atomically
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import DSPA, Conversation, EditLog


@runtime_checkable
class Side(Protocol):
    """What the talk needs of a side."""

    def say(self, text: str, map: Any, settings: dict[str, Any]) -> Iterator[str]:
        """Pieces of the answer; a turn that is broken off leaves the side as it was."""
        ...

    def undo(self) -> str:
        """Take the last turn back, and return what was asked."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that was said."""
        ...

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said."""
        ...

    @property
    def edits(self) -> EditLog | None:
        """What was edited in the last answer."""
        ...


class KeptSide:
    """A conversation on this machine, whose cache is kept from turn to turn.

    >>> side = KeptSide(dspa.conversation(map, max_new_tokens=4))
    >>> answer = "".join(side.say("tell me of the sea", map, {"alpha": 0.5}))
    >>> side.messages[-1]["content"] == answer
    True
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def say(self, text: str, map: Any, settings: dict[str, Any]) -> Iterator[str]:
        """Pieces of the answer, as they are made."""
        return self._conversation.say(text, stream=True, map=map, **settings)

    def undo(self) -> str:
        """Take the last turn back, and return what was asked."""
        return self._conversation.undo()

    def save(self, folder: Path) -> None:
        """Write the conversation; `Conversation.load` goes on with it."""
        self._conversation.save(folder)

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said."""
        return self._conversation.messages

    @property
    def edits(self) -> EditLog | None:
        """What was edited in the last answer."""
        return self._conversation.edits


class RemoteSide:
    """A conversation on NDIF: each turn sends all of it, and comes back whole.

    >>> side = RemoteSide(dspa, {"max_new_tokens": 4}, steered=True)
    >>> side.messages
    []

    Args:
        dspa: of a model that runs there.
        generation: keywords of `generate`.
        steered: whether this is the steered side.
        messages: what was said so far.
        remote: as for nnsight's `generate`.
    """

    def __init__(
        self,
        dspa: DSPA,
        generation: dict[str, Any],
        *,
        steered: bool,
        messages: Sequence[dict[str, str]] = (),
        remote: bool | str = True,
    ) -> None:
        self._dspa, self._generation, self._steered = dspa, generation, steered
        self._messages, self._where = list(messages), remote
        self._edits: list[EditLog | None] = []

    def say(self, text: str, map: Any, settings: dict[str, Any]) -> Iterator[str]:
        """The answer, in one piece."""
        dspa, model = self._dspa, cast(Any, self._dspa.model)
        said = [*self._messages, {"role": "user", "content": text}]
        prompt = dspa.render(said)
        given: dict[str, Any] = {**self._generation, "remote": self._where}
        edits: EditLog | None = None
        if self._steered:
            with model.generate(prompt.ids, **given) as tracer:
                edits = dspa.apply(map, prompt=prompt, **settings)
                ids = tracer.result.save()
        else:
            with model.generate(prompt.ids, **given) as tracer:
                ids = tracer.result.save()
        answer = model.tokenizer.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True)
        yield str(answer)
        self._messages = [*said, {"role": "assistant", "content": str(answer)}]
        self._edits.append(edits)

    def undo(self) -> str:
        """Take the last turn back, and return what was asked."""
        if not self._edits:
            raise SteeringError("nothing was said that could be undone; say something first")
        self._edits.pop()
        text = self._messages[-2]["content"]
        self._messages = self._messages[:-2]
        return text

    def save(self, folder: Path) -> None:
        """Write the messages as JSON."""
        about = {"model_id": self._dspa.facts.model_id, "messages": self._messages}
        write_atomically(folder / "messages.json", json.dumps(about, ensure_ascii=False, indent=1))

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said."""
        return list(self._messages)

    @property
    def edits(self) -> EditLog | None:
        """What was edited in the last answer."""
        return self._edits[-1] if self._edits else None


def sides(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    generation: dict[str, Any],
    *,
    system: str | None = None,
    remote: bool = False,
    resume: Path | None = None,
) -> tuple[Side, Side]:
    """The unsteered and the steered side.

    >>> [len(side.messages) for side in sides(dspa, map, {}, system="be kind")]
    [1, 1]

    resume: a folder that `/save` wrote, to go on with.
    """
    if remote:
        if resume is not None:
            raise SteeringError(
                f"--resume {resume} came with --remote, and only a talk of this machine is gone on "
                "with; leave one of them out"
            )
        said = [] if system is None else [{"role": "system", "content": system}]
        plain, steered = (
            RemoteSide(dspa, generation, steered=on, messages=said) for on in (False, True)
        )
        return plain, steered
    options: dict[str, Any] = {**generation, **({} if system is None else {"system": system})}
    if resume is None:
        return (
            KeptSide(dspa.conversation(map, alpha=0.0, **options)),
            KeptSide(dspa.conversation(map, **options)),
        )
    return (
        KeptSide(Conversation.load(resume / "unsteered", dspa, map, **options)),
        KeptSide(Conversation.load(resume / "steered", dspa, map, **options)),
    )
