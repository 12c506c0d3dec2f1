"""Where preference triples come from: files, `datasets`, or anything that yields rows."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, TypeAlias, cast, overload, runtime_checkable

from dspa_nn.checks import check_type
from dspa_nn.errors import FileError, TripleError, first_line
from dspa_nn.files import as_path, without_waiting
from dspa_nn.imports import untyped
from dspa_nn.triples.layouts import Skipped, read_row
from dspa_nn.triples.readers import FILES, LINES, TABLES, numbered, read_file
from dspa_nn.triples.triple import PreferenceTriple


@runtime_checkable
class ArrowTable(Protocol):
    """What is read of a table of pyarrow."""

    def to_pylist(self) -> list[Any]:
        """Its rows, as dicts."""
        ...


Source: TypeAlias = str | os.PathLike[str] | Iterable[Any] | ArrowTable


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
        source: a path to .jsonl, .json, .jsonl.gz, .csv, .tsv or .parquet, or to a folder that
            `save_to_disk` of `datasets` wrote; a `datasets` object, or the name of one on the hub;
            a data frame of pandas or polars, an Arrow table or a dict of columns; an iterable of
            dicts, (prompt, chosen, rejected) tuples or triples. A cell of a CSV file that holds a
            list of messages, as JSON or as pandas writes it, is read as messages.
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


def as_triples(source: Iterable[Any]) -> Sequence[Any]:
    """What a call that takes triples was given: rows in any other form go through `load_triples`.

    >>> as_triples([{"prompt": "Is it raining?", "chosen": "Yes.", "rejected": "eh"}])
    Triples: 1 from the list

    A sequence whose first item is a triple is returned as it is.

    Raises:
        TripleError: what `load_triples` refuses.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        items: Sequence[Any] = source
        if not items or isinstance(items[0], PreferenceTriple):
            return items
    return load_triples(source)


def _open(source: Any, split: str) -> tuple[str, Iterator[tuple[str, Any]]]:
    """Return what to call the source, and its rows, each with where it stands."""
    if isinstance(source, Triples):
        return source.source or "the triples", numbered(source)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(cast("str | os.PathLike[str]", source), split)
    # `datasets` takes a second to import, and whoever holds one of its objects has imported it.
    if type(source).__module__.startswith("datasets."):
        if isinstance(source, Mapping):
            splits = cast(Mapping[Any, Any], source)
            return f"data set ({split})", numbered(_pick(splits, split))
        return "data set", numbered(source)
    kind = type(source).__name__
    if (columns := _rows_of_columns(source)) is not None:
        return "the columns", numbered(columns)
    if (table := _rows_of_table(source)) is not None:
        return f"the {kind}", numbered(table)
    if isinstance(source, (Mapping, bytes)) or not isinstance(source, Iterable):
        raise TripleError(
            f"a source of type {kind} came, where a path, a data set or an "
            "iterable of rows was expected: put a single row in a list"
        )
    return f"the {kind}", numbered(cast(Iterable[Any], source))


def _open_path(source: str | os.PathLike[str], split: str) -> tuple[str, Iterator[tuple[str, Any]]]:
    try:
        path = as_path(source)
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # no path at all, or one longer than the system takes
        reason = str(error) if isinstance(error, FileError) else str(error.strerror)
        raise TripleError(
            f"{os.fspath(source)[:60]!r} cannot be read as a path ({reason.rstrip('.')}), where "
            f"{FILES} was expected: put rows in a list, or name a file"
        ) from None
    if is_file:
        return path.name, read_file(path)
    if is_folder:
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _saved_data_set(path, split)
        raise TripleError(
            f"{path.name} is a folder, where {FILES} was expected: name one of its files"
        )
    known = path.suffix in (*LINES, *TABLES, ".gz", ".parquet")
    if known or not isinstance(source, str) or source.startswith(("~", "/", ".")):
        raise TripleError(
            f"there is no file {path.name} in {path.parent}, where {FILES} was expected: "
            "check the path"
        )
    return f"{source} ({split})", numbered(_from_hub(source, split))


def _saved_data_set(path: Path, split: str) -> tuple[str, Iterator[tuple[str, Any]]]:
    """Open what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    try:
        data: Any = untyped("datasets").load_from_disk(str(path))
    except Exception as error:  # noqa: BLE001 - its errors are of a dozen unrelated classes
        raise TripleError(
            f"the data set in {path.name} cannot be read ({first_line(error)}): save it again "
            "with save_to_disk"
        ) from None
    if isinstance(data, Mapping):
        return f"{path.name} ({split})", numbered(_pick(cast(Mapping[Any, Any], data), split))
    return path.name, numbered(data)


def _rows_of_table(source: Any) -> Iterable[Any] | None:
    """The rows of a data frame or an Arrow table as dicts; None for anything else.

    Told by the library's name, so that none is imported.
    """
    library, columns = type(source).__module__.partition(".")[0], getattr(source, "columns", None)
    if columns is None or library not in ("pandas", "polars", "pyarrow"):
        return None
    if library == "pandas":
        return source.to_dict("records")
    return source.to_dicts() if library == "polars" else source.to_pylist()


def _rows_of_columns(source: Any) -> Iterable[Any] | None:
    """The rows of a dict of columns, as a slice of a data set is one; None for anything else.

    A single row is a dict too; its responses are texts, or lists of messages.
    """
    if not isinstance(source, dict):
        return None
    columns = cast(dict[Any, Any], source)
    for key in ("chosen", "rejected"):
        column: Any = columns.get(key)
        if not isinstance(column, (list, tuple)) or not column:
            return None
        first: Any = cast(Sequence[Any], column)[0]
        if isinstance(first, Mapping) and "role" in first:
            return None
    lengths = {str(key): len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise TripleError(
            f"columns of different lengths came ({lengths}), where one value a row was expected: "
            "give columns of one table"
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _pick(splits: Mapping[Any, Any], split: str) -> Iterable[Any]:
    if split not in splits:
        raise TripleError(
            f"split={split!r} came, and the data set has the splits "
            f"{', '.join(map(repr, splits))}: choose one of these"
        )
    return splits[split]


def _from_hub(name: str, split: str) -> Iterable[Any]:
    try:
        with without_waiting():
            return untyped("datasets").load_dataset(name, split=split)
    except Exception as error:  # noqa: BLE001 - its errors are of a dozen unrelated classes
        raise TripleError(
            f"{name!r} is neither a file here nor a data set with a split {split!r} that could be "
            f"had ({first_line(error)}): check the name, the split and the connection"
        ) from None
