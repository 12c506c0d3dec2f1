"""The day that chat templates write: kept with a run, so that a later day resumes the same text."""

import json
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from dspa_nn.errors import CountsError
from dspa_nn.files import as_path, write_atomically
from dspa_nn.prompts import asks_for_date, chat_template

_NAME = "rendered.json"


def today_for(tokenizer: Any) -> str | None:
    """Today in ISO form, where the tokenizer's template writes the date; else None.

    >>> today_for(tokenizer) is None
    True
    """
    return date.today().isoformat() if asks_for_date(chat_template(tokenizer)) else None


def keep_date(folder: Path, rendered_on: str) -> None:
    """Note the day with a checkpoint, before anything is counted."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _NAME, json.dumps({"rendered_on": rendered_on}))


def kept_date(*folders: str | Path | None) -> str | None:
    """The day of the run whose checkpoint or shards lie in the first of these folders, or None.

    >>> kept_date("counts-run", None) is None
    True

    Shards that cannot be read hold no day; `merge_shards` says what is wrong with them.

    Raises:
        CountsError: a checkpoint whose note of the day was changed or cut short.
    """
    for folder in folders:
        if folder is None:
            continue
        path = as_path(folder)
        if (path / _NAME).is_file():
            return _noted(path / _NAME)
        for saved in sorted(path.glob("shard-*/counts.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                return str(json.loads(saved.read_text())["provenance"]["rendered_on"])
    return None


def _noted(path: Path) -> str:
    try:
        return date.fromisoformat(json.loads(path.read_text())["rendered_on"]).isoformat()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CountsError(
            f"{path} does not hold the day that the run was begun ({type(error).__name__}); write "
            'it there, as {"rendered_on": "2026-01-31"}, or give an empty folder'
        ) from None
