"""What latents of an SAE are about, as far as a table of the package or of the user's says."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dspa_nn.checks import check_type
from dspa_nn.errors import FileError
from dspa_nn.files import ASSETS, as_path, write_atomically

SCHEMA = 1
_FOLDER = ASSETS / "latents"


class Snippet(NamedTuple):
    """A place in a text on which a latent is active: the token, and the text around it.

    Attributes:
        before, token, after: pieces of the text, as they follow one another.
        strength: value of the latent on the token.
    """

    before: str
    token: str
    after: str
    strength: float

    def __str__(self) -> str:
        return f"{self.before}[[{self.token}]]{self.after}"


@dataclass(frozen=True)
class LatentMeaning:
    """What is known of one latent in words; none of it is proof of what the latent does.

    Example:
        >>> meaning = LatentMeaning(promotes=("glad", "proud"), fires_on=("passed",))
        >>> meaning.words(1), LatentMeaning(fires_on=("passed",)).words()
        ('glad', 'on "passed"')

    Attributes:
        promotes: tokens that its decoder row makes likelier, likeliest first.
        fires_on: tokens on which it is most often among the strongest.
        snippets: places in texts where it is strongest.
        explanation, category: what a reader, a judge or Neuronpedia says of it, or None.
        reliable: whether who explained it found one pattern in its places; None where nothing is
            said.
        evidence: what the explanation rests on. source: who gave it.
        note: why explanation or category are in doubt.
        link: a page about it, or None.
    """

    promotes: tuple[str, ...] = ()
    fires_on: tuple[str, ...] = ()
    snippets: tuple[Snippet, ...] = ()
    explanation: str | None = None
    category: str | None = None
    reliable: bool | None = None
    evidence: str | None = None
    source: str | None = None
    note: str | None = None
    link: str | None = None

    def words(self, most: int = 3) -> str:
        """A few words: the explanation, else tokens promoted, else those that it fires on.

        An explanation that its own author calls unreliable comes last.
        """
        if self.explanation and self.reliable is not False:
            return self.explanation
        if self.promotes:
            return ", ".join(self.promotes[:most])
        if self.fires_on:
            return f'on "{", ".join(self.fires_on[:most])}"'
        return self.explanation or ""


def meanings_of(sae_sha256: str | None) -> Mapping[int, LatentMeaning]:
    """The table that the package brings along for an SAE; empty where there is none.

    Example:
        >>> meanings_of("of another SAE")
        {}

    sae_sha256: `LoadedSAE.sha256`, which the provenance of maps holds too.
    """
    if not sae_sha256 or not sae_sha256[:16].isalnum():
        return {}
    path = _FOLDER / f"{sae_sha256[:16]}.json"
    return _shipped(path) if path.is_file() else {}


def told_in_words(
    sae_sha256: str | None, latents: Iterable[int], *, separator: str = "; "
) -> str | None:
    """Latents with a few words each, for a print; None where no table tells of any.

    Example:
        >>> told_in_words(None, [3, 7]) is None
        True
    """
    known = meanings_of(sae_sha256)
    told = [(latent, known[latent].words()) for latent in latents if latent in known]
    return separator.join(f"{latent} {words}" for latent, words in told if words) or None


@cache
def _shipped(path: Path) -> Mapping[int, LatentMeaning]:
    return read_meanings(path)


def write_meanings(
    path: str | os.PathLike[str],
    meanings: Mapping[int, LatentMeaning],
    *,
    sae_sha256: str,
    about: str = "",
) -> None:
    """Write a table as JSON, one latent to a line.

    Example:
        >>> write_meanings("latents.json", {3: LatentMeaning(("glad",))}, sae_sha256="0" * 64)
        >>> read_meanings("latents.json")[3].promotes
        ('glad',)

    about: which SAE and which texts, for a reader of the file. Raises `FileError` where it cannot
    be written.
    """
    check_type("path", path, str | os.PathLike, FileError)
    check_type("meanings", meanings, Mapping[int, LatentMeaning], FileError)
    head = {"schema": SCHEMA, "sae_sha256": sae_sha256, "about": about}
    lines = [f'"{latent}": {_as_json(meanings[latent])}' for latent in sorted(meanings)]
    text = json.dumps(head)[:-1] + ', "latents": {\n' + ",\n".join(lines) + "\n}}\n"
    # Half of a surrogate pair is no UTF-8; JSON has a way to write it.
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    write_atomically(path, text)


def read_meanings(path: str | os.PathLike[str]) -> Mapping[int, LatentMeaning]:
    """Read what `write_meanings` wrote.

    Example:
        >>> write_meanings("latents.json", {}, sae_sha256="0" * 64)
        >>> read_meanings("latents.json")
        {}

    Raises `FileError` for what is no such table.
    """
    try:
        stored: Any = json.loads(as_path(path).read_text(encoding="utf-8"))
        if stored["schema"] > SCHEMA:
            raise FileError(f"schema {stored['schema']}, and this version reads {SCHEMA}")
        return {int(latent): _from_json(entry) for latent, entry in stored["latents"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(
            f"{path} holds no table of latents that can be read ({error}); give a file that "
            "write_meanings wrote"
        ) from error


_WORDS = {"promotes": "promotes", "on": "fires_on"}
_SAID = ("explanation", "category", "reliable", "evidence", "source", "note", "link")


def _as_json(meaning: LatentMeaning) -> str:
    entry: dict[str, Any] = {
        key: list(getattr(meaning, name)) for key, name in _WORDS.items() if getattr(meaning, name)
    }
    if meaning.snippets:
        entry["snippets"] = [[*one[:3], round(one.strength, 2)] for one in meaning.snippets]
    entry |= {name: value for name in _SAID if (value := getattr(meaning, name)) is not None}
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def _from_json(entry: Mapping[str, Any]) -> LatentMeaning:
    said: dict[str, Any] = {name: entry.get(name) for name in _SAID}
    return LatentMeaning(
        **{name: tuple(map(str, entry.get(key, ()))) for key, name in _WORDS.items()},
        snippets=tuple(
            Snippet(str(before), str(token), str(after), float(strength))
            for before, token, after, strength in entry.get("snippets", ())
        ),
        **said,
    )
