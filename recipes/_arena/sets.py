"""The sets of triples that methods are compared on: three splits each, and what is preferred."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from _real.data import Cut, read_splits

from dspa_nn.baselines import INSTRUCTION
from dspa_nn.triples import SPLITS, PreferenceTriple, read_demo_rows, take_demo_rows

SETS = ("plans", "news", "register", "ultrafeedback")
# What a user would write in front of the prompt: the general instruction, and the very preference.
INSTRUCTIONS = {
    "plans": (
        INSTRUCTION,
        "If the message below asks for encouragement, encourage; if it asks what could go wrong, "
        "warn.",
    ),
    "register": (
        INSTRUCTION,
        "Answer a personal message warmly, as a friend would, and a factual question formally, as "
        "an encyclopedia would.",
    ),
    "news": (
        INSTRUCTION,
        "If the message below is good news, congratulate; if it is bad news, say that you are "
        "sorry and comfort.",
    ),
    "ultrafeedback": (
        INSTRUCTION,
        "Follow the instruction below to the letter and answer it in full, correctly and clearly.",
    ),
}


@dataclass(frozen=True)
class Sizes:
    """How much of a set is used: all of it is stated beside every figure.

    Attributes:
        fit, dev, test: triples of each split. prompt, response: tokens that they may have: longer
            prompts are left out, longer responses cut (UltraFeedback alone).
    """

    fit: int = 250
    dev: int = 24
    test: int = 60
    prompt: int = 256
    response: int = 128


def read_set(
    name: str, dspa: Any, sizes: Sizes, source: Path | None
) -> dict[str, list[PreferenceTriple]]:
    """Split -> its triples.

    Of UltraFeedback's fitting rows all are read, since rankings by counts draw from them; methods
    are fitted on the first `sizes.fit`.
    """
    if name != "ultrafeedback":
        rows = read_demo_rows(cast(Any, name))
        wanted = {"fit": sizes.fit, "dev": sizes.dev, "test": sizes.test}
        return {s: [row.triple for row in take_demo_rows(rows, s, wanted[s])] for s in SPLITS}
    if source is None:
        raise SystemExit("ultrafeedback needs --source: its rows as JSON Lines, in order")
    cut = Cut(sizes.prompt, sizes.response, (400, max(60, sizes.dev), max(100, sizes.test)))
    splits = read_splits(name, source, dspa, cut)
    found = {split: list(rows.values()) for split, rows in splits.items()}
    return {**found, "test": found["test"][: sizes.test]}


def lengths(dspa: Any, triples: Sequence[PreferenceTriple]) -> list[tuple[int, int, int]]:
    """(prompt, chosen, rejected) of each triple, in tokens."""
    found: list[tuple[int, int, int]] = []
    for triple in triples:
        prompt = dspa.render(triple.prompt)
        chosen, rejected = (
            len(dspa.render(prompt, text).response_ids) for text in (triple.chosen, triple.rejected)
        )
        found.append((len(prompt.ids), chosen, rejected))
    return found
