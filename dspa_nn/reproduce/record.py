"""What a run's folder says of it: `run.json`, which a later call must agree with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dspa_nn.errors import EvaluationError
from dspa_nn.files import write_atomically

SCHEMA, VERSION = "dspa_nn.reproduction", 1


class Record:
    """The file `run.json` of a folder.

    Example:
        >>> record = Record(Path("out"))
        >>> record.agree({"preset": "gemma-2-2b"}, "the options of that run")
        >>> Record(Path("out")).get("preset")
        'gemma-2-2b'
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "run.json"
        self._known: dict[str, Any] = {}
        if self.path.is_file():
            try:
                body: Any = json.loads(self.path.read_text(encoding="utf-8"))
                whole = (body["schema"], body["version"]) == (SCHEMA, VERSION)
            except (OSError, ValueError, KeyError, TypeError):
                whole, body = False, {}
            if not whole:
                raise EvaluationError(
                    f"{self.path} is damaged or of another version; give another folder"
                )
            self._known = cast(dict[str, Any], body)

    def get(self, name: str) -> Any:
        """What was noted under a name, or None."""
        return self._known.get(name)

    def agree(self, values: Mapping[str, Any], remedy: str) -> None:
        """Note values, or refuse them where others are noted.

        Raises:
            EvaluationError: another value of one of them is noted.
            FileError: the file cannot be written.
        """
        plain: dict[str, Any] = json.loads(json.dumps(dict(values)))
        other = [n for n, value in plain.items() if self._known.get(n, value) != value]
        if other:
            raise EvaluationError(
                f"{self.folder} holds a run of {self._known.get('preset')} with another "
                f"{', '.join(other)}; give another folder, or {remedy}"
            )
        self.note(plain)

    def note(self, values: Mapping[str, Any]) -> None:
        """Note values, whatever was noted before."""
        self._known |= {"schema": SCHEMA, "version": VERSION, **values}
        write_atomically(self.path, json.dumps(self._known, indent=1, sort_keys=True) + "\n")
