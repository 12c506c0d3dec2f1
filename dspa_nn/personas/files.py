"""Personas and effects as JSON with a schema."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from dspa_nn.errors import DSPAError, FileError
from dspa_nn.files import as_path, write_atomically

_T = TypeVar("_T")


def write_json(
    path: str | os.PathLike[str], schema: str, version: int, values: Mapping[str, Any]
) -> None:
    """Write values under the name of their schema, whole or not at all.

    Example:
        >>> write_json("some.json", "of.some", 1, {"value": 3})
        >>> read_json("some.json", "of.some", 1, lambda values: values["value"])
        3
    """
    body = {"schema": schema, "version": version, **values}
    write_atomically(path, json.dumps(body, allow_nan=False, separators=(",", ":")) + "\n")


def read_json(
    path: str | os.PathLike[str],
    schema: str,
    version: int,
    make: Callable[[Mapping[str, Any]], _T],
) -> _T:
    """Make of a file what `write_json` wrote there.

    Example:
        >>> read_json("nowhere.json", "of.some", 1, dict)
        Traceback (most recent call last):
        dspa_nn.errors.FileError: there is no file nowhere.json; pass the path of one that was saved

    Raises:
        FileError: a file that is missing, damaged, of a newer schema or of another kind.
    """
    target = as_path(path)
    try:
        read: Any = json.loads(target.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise FileError(f"there is no file {target}; pass the path of one that was saved") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{target} cannot be read as JSON ({error}); save it again") from None
    body: Any = cast(Any, read) if isinstance(read, dict) else {}
    found: Any = body.get("schema")
    if found != schema:
        raise FileError(
            f"{target} holds {'nothing of ours' if found is None else found}; expected {schema}"
        )
    if body.get("version") != version:
        raise FileError(
            f"{target} is of version {body.get('version')!r} of {schema}, and this package reads "
            f"version {version}; update the package, or save the file again"
        )
    try:
        return make(body)
    except FileError as error:
        raise FileError(f"{target} is damaged ({error}); save it again") from None
    except DSPAError:
        raise
    except KeyError as error:
        raise FileError(f"{target} is damaged (it lacks {error}); save it again") from None
    except (TypeError, ValueError, IndexError) as error:
        raise FileError(f"{target} is damaged ({error}); save it again") from None


def _no_number(constant: str) -> Any:
    """Python's JSON reads NaN and Infinity, which `write_json` never writes."""
    raise FileError(f"it holds {constant}, where a finite number belongs")
