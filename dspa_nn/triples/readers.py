"""Files that hold rows: JSON Lines, JSON, CSV, Parquet."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dspa_nn.errors import TripleError, first_line
from dspa_nn.imports import untyped
from dspa_nn.triples.cells import read_text_cell

LINES = (".jsonl", ".json", ".ndjson")
TABLES = (".csv", ".tsv")
FILES = "a .jsonl, .json, .jsonl.gz, .csv or .parquet file"


def numbered(rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Rows with where each of them stands."""
    return ((f"row {number}", row) for number, row in enumerate(rows))


def read_file(path: Path) -> Iterator[tuple[str, Any]]:
    r"""The rows of a file, each with where it stands.

    >>> Path("a.csv").write_text("prompt,chosen,rejected\nHi,Hello.,eh\n")
    36
    >>> list(read_file(Path("a.csv")))
    [('row 0', {'prompt': 'Hi', 'chosen': 'Hello.', 'rejected': 'eh'})]

    Raises:
        TripleError: a file of another kind, or one that is cut short or damaged.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if zipped else suffixes)[-1:]
    if kind == [".parquet"] and not zipped:
        return numbered(_read_parquet(path))
    if kind and kind[0] in TABLES:
        return numbered(_read_csv(path, "," if kind == [".csv"] else "\t"))
    if kind and kind[0] in LINES:
        return _read_lines(path, zipped, may_be_array=kind == [".json"])
    raise TripleError(
        f"{path.name} is of a kind that is not read, where {FILES} was expected: convert it first"
    )


def _read_parquet(path: Path) -> Iterator[Any]:
    pyarrow, parquet = untyped("pyarrow"), untyped("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise TripleError(
            f"{path.name} is no whole Parquet file ({first_line(error)}): fetch it again"
        ) from None


def _read_csv(path: Path, separator: str) -> Iterator[Any]:
    read = untyped("pandas").read_csv
    try:
        # Every cell is text: "NA" is a response like any other.
        with read(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            compression="infer", chunksize=1024,
        ) as pieces:  # fmt: skip
            for piece in pieces:
                for row in piece.to_dict("records"):
                    yield {
                        key: read_text_cell(cell) if isinstance(cell, str) else cell
                        for key, cell in row.items()
                    }
    except (ValueError, EOFError, OSError) as error:  # pandas' own are ValueErrors
        raise TripleError(
            f"{path.name} is no whole CSV file ({first_line(error)}): save it again, in UTF-8 "
            "and with a header that names the columns"
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
                    yield from numbered(json.loads(text + "\n" + file.read().decode()))
                    return
                if text:
                    yield f"line {number}", json.loads(text)
    except json.JSONDecodeError as error:
        raise _not_json(path, number + error.lineno - 1, error.msg) from None
    except UnicodeDecodeError as error:
        raise _not_json(path, number, error.reason) from None
    except RecursionError:
        raise _not_json(path, number, "nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise _not_json(path, number, first_line(error)) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TripleError(
            f"{path.name} is no whole gzip file ({first_line(error)}): fetch it again"
        ) from None


def _not_json(path: Path, line: int, reason: str) -> TripleError:
    return TripleError(
        f"{path.name}, line {line}: not JSON ({reason}), where one JSON object on each line was "
        "expected: mend or remove the line"
    )
