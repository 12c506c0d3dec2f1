"""The embedded triples about news: well formed, crossed, in style, and split by event."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dspa_nn as dn
from dspa_nn.evaluation import gladness

FILE = Path(__file__).parents[2] / "dspa_nn" / "assets" / "demo_news.jsonl"
KEYS = {"id", "kind", "split", "prompt", "chosen", "rejected", "chosen_style"}
PREFERRED = {"good": "glad", "bad": "sorry"}


@pytest.fixture(scope="module")
def triples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()]


def test_every_line_has_the_same_keys_and_whole_sentences(triples):
    for row in triples:
        assert set(row) == KEYS
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert row["chosen_style"] == PREFERRED[row["kind"]]
        for text in (row["prompt"][0]["content"], row["chosen"], row["rejected"]):
            assert text == text.strip()
            assert text.rstrip("\"')")[-1] in ".!?"


def test_splits_are_large_enough_and_alternate_the_kinds(triples):
    counts = Counter(row["split"] for row in triples)
    assert counts["fit"] >= 250
    assert counts["dev"] >= 30
    assert counts["test"] >= 50
    assert [row["kind"] for row in triples] == ["good", "bad"] * (len(triples) // 2)
    assert FILE.stat().st_size <= 300_000


def test_each_pair_of_answers_is_chosen_once_and_rejected_once(triples):
    for good, bad in zip(triples[0::2], triples[1::2], strict=True):
        assert good["id"].removesuffix("-good") == bad["id"].removesuffix("-bad")
        assert good["split"] == bad["split"]
        assert (good["chosen"], good["rejected"]) == (bad["rejected"], bad["chosen"])


def test_no_event_and_no_answer_is_in_two_pairs(triples):
    for texts in (
        [row["id"] for row in triples],
        [row["prompt"][0]["content"].lower() for row in triples],
        [row["chosen"] for row in triples],
    ):
        assert len(set(texts)) == len(texts)


def test_answers_are_in_style(triples):
    for row in triples:
        sign = 1 if row["kind"] == "good" else -1
        assert gladness(row["chosen"]) == sign
        assert gladness(row["rejected"]) == -sign


def test_the_public_function_gives_each_split(triples, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # wherever the package is installed
    assert list(dn.demo_triples()) == list(dn.demo_triples("fit", "news"))
    for split in ("fit", "dev", "test"):
        wanted = [
            dn.PreferenceTriple(row["prompt"], row["chosen"], row["rejected"])
            for row in triples
            if row["split"] == split
        ]
        given = dn.demo_triples(split, preference="news")
        assert list(given) == wanted
        assert repr(given) == f"Triples: {len(wanted)} from demo_news.jsonl ({split})"


@pytest.mark.usefixtures("unchecked")
def test_another_preference_is_refused():
    with pytest.raises(dn.TripleError) as refused:
        dn.demo_triples("fit", "new")  # pyright: ignore[reportArgumentType]
    assert str(refused.value) == (
        "preference is 'new'; expected one of 'plans', 'news', 'register' (did you mean 'news'?)."
    )
