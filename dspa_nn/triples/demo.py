"""The triples that the package brings along, written by the embedded model, in three splits.

There are three sets, each with a card beside it (`assets/demo_plans.md`, `assets/demo_news.md`,
`assets/demo_triples.md`). In each, what is preferred depends on the prompt.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError, TripleError
from dspa_nn.files import ASSETS
from dspa_nn.triples.sources import Triples
from dspa_nn.triples.splits import SPLITS, Split
from dspa_nn.triples.triple import PreferenceTriple, as_messages

Preference = Literal["plans", "news", "register"]
FILES: dict[Preference, Path] = {
    "plans": ASSETS / "demo_plans.jsonl",
    "news": ASSETS / "demo_news.jsonl",
    "register": ASSETS / "demo_triples.jsonl",
}


@dataclass(frozen=True)
class DemoRow:
    """One demo triple with what the demo knows of it.

    >>> row = read_demo_rows("news")[0]
    >>> row.kind, row.split, row.style, row.sign
    ('good', 'fit', 'glad', 1)

    Attributes:
        kind: of prompt: "encourage" or "warn", "good" or "bad" news, "personal" or "factual".
        split: "fit", "dev" or "test".
        style: preferred for this prompt: "encouraging" or "warning", "glad" or "sorry", "warm" or
            "formal".
        triple: prompt, chosen and rejected response.
    """

    kind: str
    split: str
    style: str
    triple: PreferenceTriple

    @property
    def sign(self) -> Literal[1, -1]:
        """+1 where the encouraging, glad or warm answer is preferred, -1 where the other one is."""
        return 1 if self.style in ("encouraging", "glad", "warm") else -1

    @property
    def text(self) -> str:
        """What the user says."""
        return as_messages(self.triple.prompt)[-1]["content"]


def read_demo_rows(preference: Preference = "news") -> list[DemoRow]:
    """Read one of the embedded sets: all its splits, in the order of its file.

    >>> len(read_demo_rows("register"))
    417
    """
    rows: list[DemoRow] = []
    for line in FILES[preference].read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        triple = PreferenceTriple(item["prompt"], item["chosen"], item["rejected"])
        rows.append(DemoRow(item["kind"], item["split"], item["chosen_style"], triple))
    return rows


def take_demo_rows(rows: Sequence[DemoRow], split: str, most: int | None = None) -> list[DemoRow]:
    """Take the first rows of a split: of each kind the same number, but for an odd one.

    >>> [row.kind for row in take_demo_rows(read_demo_rows(), "test", 2)]
    ['good', 'bad']

    Raises:
        DSPAError: no row is of the split, or `most` leaves none.
    """
    taken = [row for row in rows if row.split == split][:most]
    if not taken:
        there = ", ".join(sorted({row.split for row in rows})) or "none"
        raise DSPAError(
            f"none of {len(rows)} demo rows was taken for the split {split!r}; give one of the "
            f"splits that they are of ({there}), and take at least one row"
        )
    return taken


def demo_triples(split: Split = "fit", preference: Preference = "news") -> Triples:
    """The embedded preference triples, wherever the package is installed.

    >>> import dspa_nn as dn
    >>> triples = dn.demo_triples()
    >>> triples
    Triples: ... from demo_news.jsonl (fit)
    >>> triples[0].prompt
    ({'role': 'user', 'content': '...'},)

    The embedded model wrote them. What is preferred depends on the prompt, and half of the prompts
    are of each kind, so that only a map that depends on the prompt can fit them.

    Args:
        split: "fit" for fitting maps, "dev" for choosing settings, "test" for what is reported.
        preference: "plans", encouragement or a warning, whichever is asked for; "news", joy at good
            news and sympathy for bad; or "register", warm answers to personal messages and formal
            ones to factual questions.

    Raises:
        TripleError: another split or preference.
    """
    check_choice("split", split, SPLITS, TripleError)
    check_choice("preference", preference, tuple(FILES), TripleError)
    triples = [row.triple for row in take_demo_rows(read_demo_rows(preference), split)]
    return Triples(triples, source=f"{FILES[preference].name} ({split})")
