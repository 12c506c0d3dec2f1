"""Which rows of the two data sets are used for what, and how their texts are cut."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspa_nn.triples import (
    SPLITS,
    PreferenceTriple,
    Skipped,
    hh_rlhf_rows,
    read_row,
    ultrafeedback_rows,
)

ROWS: dict[str, Callable[[str], range]] = {
    "ultrafeedback": ultrafeedback_rows,
    "hh-rlhf": hh_rlhf_rows,
}


@dataclass(frozen=True)
class Cut:
    """What bounds the work: all of it is stated beside every figure.

    Attributes:
        prompt: rows of a longer rendered prompt are left out. response: longer ones are cut after
            so many tokens. rows: how many rows of each split are taken, the first that are left.
    """

    prompt: int = 512
    response: int = 256
    rows: tuple[int, int, int] = (400, 100, 100)

    def of(self, split: str) -> int:
        """How many rows of a split are taken."""
        return self.rows[SPLITS.index(split)]


def read_lines(path: Path) -> list[Any]:
    """The rows of a JSON Lines file, which may be zipped."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read_splits(name: str, path: Path, dspa: Any, cut: Cut) -> dict[str, dict[int, Any]]:
    """Split -> row of the file -> its triple, as chat messages, with responses that were cut.

    Left out: rows without a usable pair, prompts that are too long, pairs that are equal once cut,
    and rows of a later split whose first message an earlier split holds.
    """
    lines = read_lines(path)
    splits: dict[str, dict[int, Any]] = {}
    openings: set[str] = set()
    for split in SPLITS:
        taken: dict[int, Any] = {}
        for row in ROWS[name](split):
            if len(taken) == cut.of(split) or row >= len(lines):
                break
            triple = shortened(lines[row], dspa, cut)
            if triple is not None and triple.messages[0]["content"] not in openings:
                taken[row] = triple
        splits[split] = taken
        # Rows that this split might have used count too: the SAEs were trained on some of them.
        for row in ROWS[name](split):
            if row < len(lines):
                openings.add(opening(lines[row]))
    return splits


def opening(line: Any) -> str:
    """The first message of a row, or nothing where the row has no pair."""
    try:
        return read_row(line, True).messages[0]["content"]
    except Skipped:
        return ""


def shortened(line: Any, dspa: Any, cut: Cut) -> PreferenceTriple | None:
    """A row's triple with its responses cut, or None where it is not used."""
    try:
        triple = read_row(line, True)
    except Skipped:
        return None
    if len(dspa.render(triple.prompt).ids) > cut.prompt:
        return None
    chosen, rejected = (
        first_tokens(dspa.facts.tokenizer, text, cut.response)
        for text in (triple.chosen, triple.rejected)
    )
    if not chosen.strip() or not rejected.strip() or chosen == rejected:
        return None
    return PreferenceTriple(triple.prompt, chosen, rejected)


def first_tokens(tokenizer: Any, text: str, most: int) -> str:
    """The text up to the end of its token number `most`.

    Tokenised again it may have a token more or fewer, where the cut falls inside a word.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    return text if len(ends) <= most else text[: ends[most - 1]]
