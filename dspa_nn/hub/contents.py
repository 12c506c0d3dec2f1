"""What a file or folder of ours is: read from its JSON, without the library that wrote it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dspa_nn.errors import FileError
from dspa_nn.files import as_path, read_pair
from dspa_nn.hub.cards import ORIGIN
from dspa_nn.hub.sharing import download

Facts = dict[str, Any]
_Tell = Callable[[Mapping[str, Any]], Facts]
# A version that no file has: whatever is newer than this package is still told.
_ANY_VERSION = 1 << 30


@dataclass(frozen=True)
class Found:
    """One thing of dspa-nn that was found.

    >>> print(Found("job", "job.json", {"host": "http://127.0.0.1:8001"}))
    job.json: job
      host  http://127.0.0.1:8001

    Attributes:
        kind: what it is, in a word or two.
        where: the file, or the repository on the hub.
        facts: what it says of itself, by name, in the order of a print.
        whole: whether its arrays are those that its description names; None where there are none,
            or where they were not looked at, as those of a repository on the hub.
        problem: why it cannot be used, or None.
    """

    kind: str
    where: str
    facts: Facts = field(default_factory=dict[str, Any])
    whole: bool | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))

    def __str__(self) -> str:
        width = max((len(name) for name in self.facts), default=0)
        lines = [f"{self.where}: {self.kind}"]
        lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in self.facts.items()]
        if self.whole is not None:
            told = "whole: its checksums agree" if self.whole else "damaged"
            lines.append(f"  {told}")
        if self.problem:
            lines.append(f"  {self.problem}")
        return "\n".join(lines)


def identify(source: str | Path) -> list[Found]:
    """Say what a file, a folder or a repository on the hub holds of this toolkit.

    >>> map.save("my_map")
    >>> found = identify("my_map")[0]
    >>> found.kind, found.whole
    ('map', True)

    Arrays of a local thing are read through for their checksum. Of a repository on the hub the
    descriptions are fetched alone, which are small.

    Raises:
        FileError: there is no such thing, or nothing of this toolkit in it.
    """
    path, text = as_path(source), str(source)
    if path.is_dir():
        return _all_in(path, text, local=True)
    if path.exists():
        return [_file(path, str(path), local=True)]
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        try:
            folder = download(text, ["*.json"])
        except FileError as error:
            raise FileError(f"there is no file or folder {text} here, and {error}") from error
        return _all_in(folder, text, local=False)
    raise FileError(
        f"{text} is no file or folder here, and no id of a repository on the hub; check the path"
    )


def _all_in(folder: Path, where: str, local: bool) -> list[Found]:
    found: list[Found] = []
    others: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_file(path, str(path) if local else f"{where}/{path.name}", local))
        except FileError:  # somebody else's JSON, or one of ours that was cut short
            others.append(path.name)
    if not found:
        named = f" ({', '.join(others[:5])})" if others else ""
        cut = ", and copy it again if one of them was cut short" if others else ""
        raise FileError(
            f"{where} holds nothing of dspa-nn that can be told by its JSON files{named}; give a "
            f"folder that save(...) wrote, or one of its files{cut}"
        )
    return found


def _file(path: Path, where: str, local: bool) -> Found:
    if path.suffix == ".safetensors":
        owner = path.with_name(f"{path.name.rpartition('-')[0]}.json")
        if owner.is_file():
            return _file(owner, str(owner), local)
    loaded = _lines_of_json(path)
    if isinstance(loaded, list):
        return _triples(where, loaded)
    about = loaded
    schema = str(about.get("schema", ""))
    kind, tell = _KINDS.get(schema, ("", None))
    if schema.startswith("dspa_nn.") and "sha256" in about and "checksum" in about:
        name = schema.removeprefix("dspa_nn.")
        whole, problem = None, None
        try:
            if path.name != f"{name}.json":
                problem = (
                    f"it is named {path.name}, and is read as {name}.json alone; copy what was "
                    "saved again"
                )
            elif local:
                about = read_pair(path.parent, name, version=_ANY_VERSION)[1]
                whole = True
        except FileError as error:
            whole, problem = False, str(error)
        facts = _told(tell, about, where)
        return Found(kind or name, where, facts | {"format": _format(about)}, whole, problem)
    if tell is not None:
        return Found(kind, where, _told(tell, about, where) | {"format": _format(about)})
    if {"job_id", "host", "schema_version"} <= set(about):
        return Found("NDIF job", where, {"job": about["job_id"], "host": about["host"]})
    if {"sae_sha256", "latents"} <= set(about):
        facts = {"latents": len(about["latents"]), "SAE": about["sae_sha256"]}
        return Found("table of latents in words", where, facts | _given(about, {"about": "about"}))
    if schema.startswith("dspa_nn."):
        return Found(schema.removeprefix("dspa_nn."), where, {"format": _format(about)})
    raise _unknown(where)


def _told(tell: "_Tell | None", about: Mapping[str, Any], where: str) -> Facts:
    try:
        return tell(about) if tell else {}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileError(
            f"{where} lacks what its schema promises ({type(error).__name__}: {error}); save it "
            "again, copy it whole, or upgrade dspa-nn if a newer one wrote it"
        ) from None


def _lines_of_json(path: Path) -> dict[str, Any] | list[Any]:
    """A JSON object; of JSON Lines, a list of them."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"{path} is no text that can be read ({type(error).__name__}); give a folder that "
            "save(...) wrote, or its JSON file"
        ) from None
    try:
        whole: Any = json.loads(text)
        return cast("dict[str, Any]", whole) if isinstance(whole, dict) else []
    except RecursionError:
        return []
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return []


def _triples(where: str, rows: list[Any]) -> Found:
    named = [cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)]
    if named and len(named) == len(rows) and all({"chosen", "rejected"} <= {*row} for row in named):
        return Found("preference triples", where, {"triples": len(rows), "fields": [*named[0]]})
    raise _unknown(where)


def _unknown(where: str) -> FileError:
    return FileError(
        f"{where} is no file of dspa-nn that can be told from its content; give a folder that "
        "save(...) wrote, or one of its files"
    )


def _given(about: Mapping[str, Any], names: Mapping[str, str]) -> Facts:
    return {label: about[key] for key, label in names.items() if about.get(key) is not None}


# What is told of a provenance: what a card tells, without adapters and most hashes.
_NOT_TOLD = ("adapters", "input_sae_sha256", "output_sae_sha256", "template_sha256")
_ORIGIN = {key: label for key, label in ORIGIN.items() if key not in _NOT_TOLD}


def _map(about: Mapping[str, Any]) -> Facts:
    d_in, d_out = about["shape"]
    facts: Facts = {"latents": f"{d_in:,} x {d_out:,}"}
    if "sum" in about:
        terms: Any = about["sum"]
        facts["sum of"] = ", ".join(f"{term['coefficient']:g} x map" for term in terms)
        return facts | _given(terms[0]["provenance"], _ORIGIN)
    options = about["options"]
    facts |= {name: value for name, value in options.items() if value is not None}
    origin, defaults = about["provenance"], about.get("defaults")
    facts |= _given(origin, {"fitted_gate": "fitted with the gate"})
    return facts | ({"steers with": defaults} if defaults else {}) | _given(origin, _ORIGIN)


def _counts(about: Mapping[str, Any]) -> Facts:
    origin = about["provenance"]
    facts: Facts = {"latents": f"{about['d_in']:,} x {about['d_out']:,}"}
    facts |= _given(origin.get("batch_plan") or {}, {"triples": "triples in the source"})
    skipped = about.get("skipped")
    return facts | ({"left out": skipped} if skipped else {}) | _given(origin, _ORIGIN)


def _conversation(about: Mapping[str, Any]) -> Facts:
    return {
        "model": about["model_id"],
        "messages": len(about["messages"]),
        "settings": about["options"],
    }


def _receipt(about: Mapping[str, Any]) -> Facts:
    return {
        "of": about["name"],
        "model": about["model"]["model_id"],
        "in short": about["in_short"],
        "written": about["written"],
    }


def _persona(about: Mapping[str, Any]) -> Facts:
    origin = about["effects"].get("provenance", {})
    return {"weights": about["axis_weights"], "mode": about["mode"]} | _given(origin, _ORIGIN)


def _said(**names: str) -> _Tell:
    return lambda about: _given(about, names)


# Schema of a file -> what it is, and what is told of it.
_KINDS: dict[str, tuple[str, _Tell | None]] = {
    "dspa_nn.map": ("map", _map),
    "dspa_nn.counts": ("counts", _counts),
    "dspa_nn.conversation": ("conversation", _conversation),
    "dspa_nn.receipt": ("receipt", _receipt),
    "dspa_nn.tuning": ("settings that were tuned", _said(triples="triples", written="written")),
    "dspa_nn.persona": ("persona", _persona),
    "dspa_nn.demo": ("the demo's figures", None),
}


def _format(about: Mapping[str, Any]) -> str:
    return f"{about.get('schema')}, version {about.get('version', '?')}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return ", ".join(f"{name} {one}" for name, one in pairs)
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value)))
    return str(value)
