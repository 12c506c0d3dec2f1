"""Finished parts of a measurement, each a small JSON file whose name is a hash of its key.

A run that was cut off, or that is repeated with another method or file beside it, finds what is
done and measures the rest.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspa_nn.files.atomic import require_folder, write_atomically
from dspa_nn.files.pairs import sha256_of_json
from dspa_nn.files.paths import as_path
from dspa_nn.progress import warn

SCHEMA, VERSION = "dspa_nn.part", 1


class Parts:
    """The parts in a folder.

    Example:
        >>> parts = Parts("receipt")
        >>> key = {"map": "5f0c", "triples": "91ab"}
        >>> parts.get("margins", key) is None
        True
        >>> parts.put("margins", key, {"kl": [0.1]}, seconds=2.0)
        >>> Parts("receipt").get("margins", key)
        {'kl': [0.1]}

    Attributes:
        seconds: what the parts that were asked for took when they were measured, in this run or an
            earlier one.
        fresh, found: parts measured now, and read from the folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder: Path = as_path(folder) / "parts"
        require_folder("out", as_path(folder))
        self.seconds: dict[str, float] = {}
        self.fresh = self.found = 0

    def get(self, what: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The values of a part; None where it is not there, or not whole."""
        path = self._path(what, key)
        if not path.is_file():
            return None
        try:
            body: Any = json.loads(path.read_text(encoding="utf-8"))
            whole = (body["schema"], body["version"], body["what"]) == (SCHEMA, VERSION, what)
            values: dict[str, Any] = body["values"]
            seconds = float(body["seconds"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            whole, values, seconds = False, {}, 0.0
        if not whole:
            warn(f"{path.name} is damaged or of another version, and is measured again")
            return None
        self.found += 1
        self._note(what, seconds)
        return values

    def put(
        self, what: str, key: Mapping[str, Any], values: Mapping[str, Any], seconds: float
    ) -> None:
        """Keep the values of a part: plain values for JSON.

        Raises:
            FileError: a full disk or a read-only folder.
        """
        body = {
            "schema": SCHEMA, "version": VERSION, "what": what, "seconds": round(seconds, 3),
            "values": dict(values),
        }  # fmt: skip
        write_atomically(self._path(what, key), json.dumps(body, allow_nan=False))
        self.fresh += 1
        self._note(what, seconds)

    def has(self, what: str, key: Mapping[str, Any]) -> bool:
        """Whether a part is there, without reading it.

        >>> Parts("receipt").has("margins", {})
        False
        """
        return self._path(what, key).is_file()

    def _path(self, what: str, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{what}-{sha256_of_json(dict(key))[:24]}.json"

    def _note(self, what: str, seconds: float) -> None:
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds
