"""The talk: every message goes to both sides, and the settings of the steered one may change."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dspa_nn.chat.sides import Side, sides
from dspa_nn.errors import SteeringError
from dspa_nn.files import as_path, write_atomically
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.progress import warnings_held
from dspa_nn.steering import DSPA, EditLog

Which = Literal["unsteered", "steered"]


class Piece(NamedTuple):
    """A piece of an answer, and whose it is."""

    side: Which
    text: str


@dataclass(frozen=True)
class Steered:
    """The last steered answer: by which map, with which edits."""

    map: ConditionalDifferenceMap
    edits: EditLog | None


class Talk:
    """Two conversations with one model, the same questions in both, each with its own answers.

    Example:
        >>> talk = Talk(dspa, map, "warm", generation={"max_new_tokens": 4})
        >>> pieces = list(talk.ask("tell me of the sea"))
        >>> sorted({piece.side for piece in pieces})
        ['steered', 'unsteered']
        >>> talk.undo()
        'tell me of the sea'

    Args:
        dspa: the model and its SAEs.
        map: the map to steer by. name: how it is called.
        settings: of steering, such as alpha.
        generation: keywords of `generate`.
        system: a system message.
        remote: run on NDIF.
        resume: a folder that `save` wrote.

    Attributes:
        map, name, settings: those of the next answer.
        remote: whether it runs on NDIF, where a talk cannot be gone on with.
        notes: warnings of the last answer, without their place in the code.
        last: the last steered answer, or None.
    """

    def __init__(
        self,
        dspa: DSPA,
        map: ConditionalDifferenceMap,
        name: str,
        *,
        settings: dict[str, Any] | None = None,
        generation: dict[str, Any] | None = None,
        system: str | None = None,
        remote: bool = False,
        resume: str | Path | None = None,
    ) -> None:
        self.dspa, self.map, self.name = dspa, map, name
        self.settings: dict[str, Any] = dict(settings or {})
        self._check(map, self.settings)
        folder = None if resume is None else as_path(resume)
        self._unsteered, self._steered = sides(
            dspa, map, dict(generation or {}), system=system, remote=remote, resume=folder
        )
        self.remote = remote
        self.notes: list[str] = []
        self.last: Steered | None = None

    def _check(self, map: ConditionalDifferenceMap, settings: dict[str, Any]) -> None:
        """Refuse what cannot steer, before it is taken for the next answer."""
        self.dspa.conversation(map, **settings)

    @property
    def alpha(self) -> float:
        """The alpha of the next answer, wherever it comes from."""
        given = self.settings.get("alpha")
        known = self.map.defaults.get("alpha", self.dspa.defaults.get("alpha", 0.2))
        return float(known if given is None else given)

    def take(self, map: ConditionalDifferenceMap, name: str) -> None:
        """Steer by another map from now on.

        Raises:
            MapError: one of another model or SAE.
        """
        self._check(map, self.settings)
        self.map, self.name = map, name

    def set(self, name: str, value: Any) -> None:
        """Change a setting of the answers from now on.

        Raises:
            SteeringError: one that cannot be.
        """
        changed = {**self.settings, name: value}
        self._check(self.map, changed)
        self.settings = changed

    def ask(self, text: str) -> Generator[Piece]:
        """Say something to both sides; pieces of the unsteered answer come first.

        Where it is broken off, by an error, Ctrl-C or by closing the generator, both sides are as
        they were.
        """
        self.notes = []
        asked: list[Side] = []
        try:
            with warnings_held():  # that nothing is steered, which is wanted
                yield from _pieces("unsteered", self._unsteered.say(text, self.map, {"alpha": 0.0}))
            asked.append(self._unsteered)
            with warnings_held() as notes:
                yield from _pieces("steered", self._steered.say(text, self.map, self.settings))
            asked.append(self._steered)
            self.notes = list(dict.fromkeys(notes))
        finally:
            if len(asked) == 1:
                asked[0].undo()
        self.last = Steered(self.map, self._steered.edits)

    def undo(self) -> str:
        """Take the last turn back on both sides; return what was asked.

        Raises:
            SteeringError: nothing was said.
        """
        self._unsteered.undo()
        self.last = None
        return self._steered.undo()

    @property
    def turns(self) -> list[tuple[str, str, str]]:
        """What was asked, with the unsteered and the steered answer."""
        plain, steered = self._unsteered.messages, self._steered.messages
        pairs = zip(plain, steered, strict=False)
        said = [(one, other) for one, other in pairs if one["role"] != "system"]
        return [
            (said[at][0]["content"], said[at + 1][0]["content"], said[at + 1][1]["content"])
            for at in range(0, len(said) - 1, 2)
        ]

    def save(self, folder: str | Path) -> Path:
        """Write both conversations, and `transcript.md` for a reader.

        Example:
            >>> talk = Talk(dspa, map, "warm", generation={"max_new_tokens": 4})
            >>> pieces = list(talk.ask("tell me of the sea"))
            >>> sorted(path.name for path in talk.save("talk").iterdir())
            ['steered', 'transcript.md', 'unsteered']

        Raises:
            FileError: a full disk or a read-only folder.
            SteeringError: nothing was said.
        """
        if not self.turns:
            raise SteeringError("nothing was said that could be saved; say something first")
        path = as_path(folder)
        self._unsteered.save(path / "unsteered")
        self._steered.save(path / "steered")
        lines = [f"# {self.dspa.facts.model_id}, unsteered and steered by {self.name}"]
        for asked, plain, steered in self.turns:
            lines += [f"## {asked}", f"**Unsteered.** {plain}", f"**Steered.** {steered}"]
        write_atomically(path / "transcript.md", "\n\n".join(lines) + "\n")
        return path


def _pieces(which: Which, stream: Iterator[str]) -> Generator[Piece]:
    """A stream's pieces; it is closed at once where this is, and not when it is forgotten."""
    try:
        for text in stream:
            yield Piece(which, text)
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
