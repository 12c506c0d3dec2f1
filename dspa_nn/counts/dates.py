"""The day that chat templates write: kept with a run, so that a later day resumes the same text."""

import json
from datetime import date
from pathlib import Path
from typing import Any

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
    """
    for folder in folders:
        if folder is None:
            continue
        path = as_path(folder)
        if (path / _NAME).is_file():
            return json.loads((path / _NAME).read_text())["rendered_on"]
        for saved in sorted(path.glob("shard-*/counts.json")):
            kept = json.loads(saved.read_text()).get("provenance", {}).get("rendered_on")
            if kept is not None:
                return str(kept)
    return None
