"""Where preference triples come from: files, `datasets`, or anything that yields rows."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias, cast, overload

from dspa_nn.checks import check_type
from dspa_nn.errors import TripleError
from dspa_nn.imports import untyped
from dspa_nn.triples.layouts import Skipped, read_row
from dspa_nn.triples.triple import PreferenceTriple

_LINES = (".jsonl", ".json", ".ndjson")
_FILES = "a .jsonl, .json, .jsonl.gz or .parquet file"

Source: TypeAlias = str | os.PathLike[str] | Iterable[Any]


class Triples(list[PreferenceTriple]):
    """A list of triples that knows where it came from; a slice of it does too.

    >>> triples = load_triples([("Is it raining?", "Yes.", "eh"), ("Is it?", "eh", "eh")])
    >>> triples
    Triples: 1 from the list (left out: 1 chosen equals rejected)
    >>> triples[:1].skipped
    {'chosen equals rejected': 1}

    Attributes:
        skipped: how many rows of the source were left out, by reason.
        source: the file, the data set's name and split, or what kind of object it was.
    """

    def __init__(
        self,
        triples: Iterable[PreferenceTriple] = (),
        *,
        skipped: Mapping[str, int] | None = None,
        source: str = "",
    ) -> None:
        super().__init__(triples)
        self.skipped: dict[str, int] = dict(skipped or {})
        self.source = source

    @property
    def sha256(self) -> str:
        """Hash of the content, order included; it does not depend on where the triples lie."""
        digest = hashlib.sha256()
        for triple in self:
            fields = [triple.prompt, triple.chosen, triple.rejected]
            digest.update(json.dumps(fields, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()

    @overload
    def __getitem__(self, index: SupportsIndex) -> PreferenceTriple: ...
    @overload
    def __getitem__(self, index: slice) -> "Triples": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "PreferenceTriple | Triples":
        if isinstance(index, slice):
            some = super().__getitem__(index)
            return Triples(some, skipped=self.skipped, source=self.source)
        return super().__getitem__(index)

    def __repr__(self) -> str:
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        skipped = f" (left out: {left_out})" if left_out else ""
        return f"Triples: {len(self)} from {self.source or 'memory'}{skipped}"


def load_triples(
    source: Source,
    *,
    chat: bool = False,
    split: str = "train",
    strict: bool = False,
    limit: int | None = None,
) -> Triples:
    """Read preference triples from whatever holds them.

    >>> rows = [("Is it raining?", "Yes, take a coat.", "eh")]
    >>> load_triples(rows)
    Triples: 1 from the list
    >>> load_triples(rows, chat=True)[0].prompt
    ({'role': 'user', 'content': 'Is it raining?'},)
    >>> load_triples("argilla/ultrafeedback-binarized-preferences-cleaned",
    ...              limit=250)                        # doctest: +SKIP
    Triples: 250 from argilla/ultrafeedback-binarized-preferences-cleaned (train)

    Rows may have an explicit prompt (strings or lists of chat messages), no prompt but responses
    that are message lists opening alike, or whole dialogues as in HH-RLHF, which are cut at their
    last Assistant turn. Other keys are ignored. Where the responses are message lists that hold
    the prompt as well, those messages are the prompt, not a 'prompt' string beside them.

    Left out and counted in `.skipped`, or refused with strict=True: chosen equal to rejected;
    pairs that differ before their last turn (5 of 2,312 in a published split of HH-RLHF); dialogues
    and message lists whose last turn is empty (4 of those 2,312). An empty response in a column of
    its own is always an error.

    Args:
        source: a path to .jsonl, .json, .jsonl.gz or .parquet; a `datasets` object, or the name of
            one on the hub; an iterable of dicts, (prompt, chosen, rejected) tuples or triples.
        chat: lift a string prompt to one user message, and a whole dialogue to messages.
        split: of a data set; files have none.
        strict: refuse what would be left out.
        limit: stop after so many triples.

    Raises:
        TripleError: an empty source, a file that is missing, damaged or of another kind, a line
            that is not JSON, a row of no known layout, an empty response.
    """
    check_type("chat", chat, bool, TripleError)
    check_type("split", split, str, TripleError)
    check_type("strict", strict, bool, TripleError)
    check_type("limit", limit, int | None, TripleError)
    if limit is not None and limit < 1:
        raise TripleError(
            f"limit={limit} came, where at least 1 or None was expected: give how many triples "
            "are wanted at most"
        )
    name, rows = _open(source, split)
    triples: list[PreferenceTriple] = []
    skipped: Counter[str] = Counter()
    for where, row in rows:
        try:
            triples.append(read_row(row, chat))
        except Skipped as reason:
            if strict:
                raise TripleError(
                    f"{name}, {where}: {reason}, where a preference was expected and strict=True "
                    "refuses the rest: mend the row, or leave strict out to skip and count it"
                ) from None
            skipped[str(reason)] += 1
        except TripleError as error:
            raise TripleError(f"{name}, {where}: {error}") from None
        if limit is not None and len(triples) == limit:
            break
    if not triples:
        why = ", ".join(f"{count} left out: {reason}" for reason, count in skipped.items())
        raise TripleError(
            f"{name} holds no triples ({why or 'it is empty'}), where at least one was expected: "
            "check the source"
        )
    return Triples(triples, skipped=skipped, source=name)


def _open(source: Any, split: str) -> tuple[str, Iterator[tuple[str, Any]]]:
    """Return what to call the source, and its rows, each with where it stands."""
    if isinstance(source, Triples):
        return source.source or "the triples", _numbered(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(cast("str | os.PathLike[str]", source))
        if path.is_file():
            return path.name, _read_file(path)
        if path.is_dir():
            raise TripleError(
                f"{path.name} is a folder, where {_FILES} was expected: name one of its files"
            )
        if not isinstance(source, str) or path.suffix in (*_LINES, ".gz", ".parquet"):
            raise TripleError(
                f"there is no file {path.name} in {path.parent}, where {_FILES} was expected: "
                "check the path"
            )
        return f"{source} ({split})", _numbered(_from_hub(source, split))
    # `datasets` takes a second to import, and whoever holds one of its objects has imported it.
    if type(source).__module__.startswith("datasets."):
        if isinstance(source, Mapping):
            splits = cast(Mapping[Any, Any], source)
            return f"data set ({split})", _numbered(_pick(splits, split))
        return "data set", _numbered(source)
    kind = type(source).__name__
    if isinstance(source, (Mapping, bytes)) or not isinstance(source, Iterable):
        raise TripleError(
            f"a source of type {kind} came, where a path, a data set or an "
            "iterable of rows was expected: put a single row in a list"
        )
    return f"the {kind}", _numbered(cast(Iterable[Any], source))


def _numbered(rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"row {number}", row) for number, row in enumerate(rows))


def _pick(splits: Mapping[Any, Any], split: str) -> Iterable[Any]:
    if split not in splits:
        raise TripleError(
            f"split={split!r} came, and the data set has the splits "
            f"{', '.join(map(repr, splits))}: choose one of these"
        )
    return splits[split]


def _from_hub(name: str, split: str) -> Iterable[Any]:
    try:
        return untyped("datasets").load_dataset(name, split=split)
    except Exception as error:  # noqa: BLE001 - its errors are of a dozen unrelated classes
        raise TripleError(
            f"{name!r} is neither a file here nor a data set with a split {split!r} that could be "
            f"had ({_first_line(error)}): check the name, the split and the connection"
        ) from None


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if zipped else suffixes)[-1:]
    if kind == [".parquet"] and not zipped:
        return _numbered(_read_parquet(path))
    if kind and kind[0] in _LINES:
        return _read_lines(path, zipped, may_be_array=kind == [".json"])
    raise TripleError(
        f"{path.name} is of a kind that is not read, where {_FILES} was expected: convert it first"
    )


def _read_parquet(path: Path) -> Iterator[Any]:
    pyarrow, parquet = untyped("pyarrow"), untyped("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise TripleError(
            f"{path.name} is no whole Parquet file ({_first_line(error)}): fetch it again"
        ) from None


def _read_lines(path: Path, zipped: bool, may_be_array: bool) -> Iterator[tuple[str, Any]]:
    import gzip
    import zlib

    number = 0
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig").strip()
                if may_be_array and number == 1 and text.startswith("["):
                    yield from _numbered(json.loads(text + "\n" + file.read().decode()))
                    return
                if text:
                    yield f"line {number}", json.loads(text)
    except json.JSONDecodeError as error:
        raise _not_json(path, number + error.lineno - 1, error.msg) from None
    except UnicodeDecodeError as error:
        raise _not_json(path, number, error.reason) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TripleError(
            f"{path.name} is no whole gzip file ({_first_line(error)}): fetch it again"
        ) from None


def _not_json(path: Path, line: int, reason: str) -> TripleError:
    return TripleError(
        f"{path.name}, line {line}: not JSON ({reason}), where one JSON object on each line was "
        "expected: mend or remove the line"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
