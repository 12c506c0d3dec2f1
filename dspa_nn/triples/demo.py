"""The triples that the package brings along, written by the embedded model, in three splits.

Their card is `assets/demo_triples.md`: warm answers are preferred where a prompt is personal,
formal ones where it asks for a fact.
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

FILE = ASSETS / "demo_triples.jsonl"


@dataclass(frozen=True)
class DemoRow:
    """One demo triple with what the demo knows of it.

    >>> row = read_demo_rows()[0]
    >>> row.kind, row.split, row.style, row.sign
    ('personal', 'fit', 'warm', 1)

    Attributes:
        kind: of prompt, "personal" or "factual".
        split: "fit", "dev" or "test".
        style: preferred for this prompt, "warm" or "formal".
        triple: prompt, chosen and rejected response.
    """

    kind: str
    split: str
    style: str
    triple: PreferenceTriple

    @property
    def sign(self) -> Literal[1, -1]:
        """+1 where warmth is preferred, -1 where it is not."""
        return 1 if self.style == "warm" else -1

    @property
    def text(self) -> str:
        """What the user says."""
        return as_messages(self.triple.prompt)[-1]["content"]


def read_demo_rows(path: Path = FILE) -> list[DemoRow]:
    """Read demo triples from JSON Lines: kind, split, chosen_style, prompt, chosen, rejected.

    >>> len(read_demo_rows())
    417
    """
    rows: list[DemoRow] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        triple = PreferenceTriple(item["prompt"], item["chosen"], item["rejected"])
        rows.append(DemoRow(item["kind"], item["split"], item["chosen_style"], triple))
    return rows


def take_demo_rows(rows: Sequence[DemoRow], split: str, most: int | None = None) -> list[DemoRow]:
    """Take the first rows of a split: of each kind the same number, but for an odd one.

    >>> [row.kind for row in take_demo_rows(read_demo_rows(), "test", 2)]
    ['personal', 'factual']

    Raises:
        DSPAError: the split is empty.
    """
    taken = [row for row in rows if row.split == split][:most]
    if not taken:
        raise DSPAError(f"the demo's triples hold none for {split!r}; write the file again")
    return taken


def demo_triples(split: Split = "fit") -> Triples:
    """The embedded preference triples, wherever the package is installed.

    >>> import dspa_nn as dn
    >>> triples = dn.demo_triples()
    >>> triples
    Triples: 287 from demo_triples.jsonl (fit)
    >>> triples[0].prompt
    ({'role': 'user', 'content': 'My best friend is moving to another country ...'},)

    The embedded model wrote them: warm answers are preferred to personal prompts, formal ones to
    factual prompts, half of each, so that only a map that depends on the prompt can fit them.

    Args:
        split: "fit" for fitting maps, "dev" for choosing settings, "test" for what is reported.

    Raises:
        TripleError: another split.
    """
    check_choice("split", split, SPLITS, TripleError)
    triples = [row.triple for row in take_demo_rows(read_demo_rows(), split)]
    return Triples(triples, source=f"{FILE.name} ({split})")
