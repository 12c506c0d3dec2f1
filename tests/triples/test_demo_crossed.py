"""The embedded triples about news and about plans: well formed, crossed, in style, and split."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import dspa_nn as dn
from dspa_nn.evaluation import encouragement, gladness

ASSETS = Path(__file__).parents[2] / "dspa_nn" / "assets"
KEYS = {"id", "kind", "split", "prompt", "chosen", "rejected", "chosen_style"}


@dataclass(frozen=True)
class Crossed:
    """A set in which two prompts share their answers: what the one prefers the other rejects."""

    name: Literal["news", "plans"]
    preferred: dict[str, str]  # kind of prompt -> style, that of sign +1 first
    sign_of: Callable[[str], int | float]

    @property
    def file(self) -> Path:
        return ASSETS / f"demo_{self.name}.jsonl"

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


NEWS = Crossed("news", {"good": "glad", "bad": "sorry"}, gladness)
PLANS = Crossed("plans", {"encourage": "encouraging", "warn": "warning"}, encouragement)


@pytest.fixture(scope="module", params=[NEWS, PLANS], ids=["news", "plans"])
def crossed(request: pytest.FixtureRequest) -> Crossed:
    return request.param


@pytest.fixture(scope="module")
def triples(crossed: Crossed) -> list[dict[str, Any]]:
    return crossed.rows


def test_every_line_has_the_same_keys_and_whole_sentences(crossed, triples):
    for row in triples:
        assert set(row) == KEYS
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert row["chosen_style"] == crossed.preferred[row["kind"]]
        for text in (row["prompt"][0]["content"], row["chosen"], row["rejected"]):
            assert text == text.strip()
            assert text.rstrip("\"')")[-1] in ".!?"


def test_splits_are_large_enough_and_alternate_the_kinds(crossed, triples):
    counts = Counter(row["split"] for row in triples)
    assert counts["fit"] >= 250
    assert counts["dev"] >= 30
    assert counts["test"] >= 50
    assert [row["kind"] for row in triples] == [*crossed.preferred] * (len(triples) // 2)
    assert crossed.file.stat().st_size <= 300_000


def test_each_pair_of_answers_is_chosen_once_and_rejected_once(crossed, triples):
    one, other = crossed.preferred
    for first, second in zip(triples[0::2], triples[1::2], strict=True):
        assert first["id"].removesuffix(f"-{one}") == second["id"].removesuffix(f"-{other}")
        assert first["split"] == second["split"]
        assert (first["chosen"], first["rejected"]) == (second["rejected"], second["chosen"])


def test_no_prompt_and_no_answer_is_in_two_pairs(triples):
    for texts in (
        [row["id"] for row in triples],
        [row["prompt"][0]["content"].lower() for row in triples],
        [row["chosen"] for row in triples],
    ):
        assert len(set(texts)) == len(texts)


def test_answers_are_in_style(crossed, triples):
    first, _ = crossed.preferred
    for row in triples:
        sign = 1 if row["kind"] == first else -1
        assert crossed.sign_of(row["chosen"]) == sign
        assert crossed.sign_of(row["rejected"]) == -sign


def test_the_public_function_gives_each_split(crossed, triples, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # wherever the package is installed
    for split in ("fit", "dev", "test"):
        wanted = [
            dn.PreferenceTriple(row["prompt"], row["chosen"], row["rejected"])
            for row in triples
            if row["split"] == split
        ]
        given = dn.demo_triples(split, preference=crossed.name)
        assert list(given) == wanted
        assert repr(given) == f"Triples: {len(wanted)} from {crossed.file.name} ({split})"


def test_news_are_the_default():
    assert list(dn.demo_triples()) == list(dn.demo_triples("fit", "news"))


@pytest.mark.usefixtures("unchecked")
def test_another_preference_is_refused():
    with pytest.raises(dn.TripleError) as refused:
        dn.demo_triples("fit", "new")  # pyright: ignore[reportArgumentType]
    assert str(refused.value) == (
        "preference is 'new'; expected one of 'plans', 'news', 'register' (did you mean 'news'?)."
    )
