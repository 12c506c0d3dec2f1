"""The embedded demo triples, by split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspa_nn.errors import DSPAError
from dspa_nn.files import ASSETS
from dspa_nn.triples.triple import PreferenceTriple

FILE = ASSETS / "demo_triples.jsonl"


@dataclass(frozen=True)
class Row:
    """One demo triple: `kind` of prompt, and the style ("warm" or "formal") preferred for it."""

    kind: str
    split: str
    style: str
    triple: PreferenceTriple

    @property
    def sign(self) -> int:
        """+1 where warmth is preferred, -1 where it is not."""
        return 1 if self.style == "warm" else -1

    @property
    def text(self) -> str:
        """What the user says."""
        return str(self.triple.prompt[-1]["content"])  # pyright: ignore[reportArgumentType]


def read_rows(path: Path = FILE) -> list[Row]:
    """Read demo triples from JSON Lines: kind, split, chosen_style, prompt, chosen, rejected."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        item: dict[str, Any] = json.loads(line)
        triple = PreferenceTriple(item["prompt"], item["chosen"], item["rejected"])
        rows.append(Row(item["kind"], item["split"], item["chosen_style"], triple))
    return rows


def take(rows: Sequence[Row], split: str, most: int | None = None) -> list[Row]:
    """The first rows of a split; of each kind the same number, but for an odd one.

    Raises:
        DSPAError: the split is empty.
    """
    found = [row for row in rows if row.split == split][:most]
    if not found:
        raise DSPAError(f"the demo's triples hold none for {split!r}; write the file again")
    return found
