"""The embedded demo triples: well formed, balanced, on style, and alike in length."""

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dspa_nn as dn
from dspa_nn.evaluation import warmth

FILE = Path(__file__).parents[2] / "dspa_nn" / "assets" / "demo_triples.jsonl"
KEYS = {"id", "kind", "split", "prompt", "chosen", "rejected", "chosen_style"}
PREFERRED = {"personal": "warm", "factual": "formal"}


@pytest.fixture(scope="module")
def triples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()]


def test_every_line_has_the_same_keys_and_whole_sentences(triples):
    for row in triples:
        assert set(row) == KEYS
        assert [m["role"] for m in row["prompt"]] == ["user"]
        assert row["chosen_style"] == PREFERRED[row["kind"]]
        for text in (row["prompt"][0]["content"], row["chosen"], row["rejected"]):
            assert text == text.strip()
            assert text.rstrip("\"')")[-1] in ".!?"


def test_splits_are_large_enough_and_hold_both_kinds_equally(triples):
    counts = Counter((row["split"], row["kind"]) for row in triples)
    for name, least in (("fit", 250), ("dev", 60), ("test", 50)):
        sizes = [counts[name, kind] for kind in PREFERRED]
        assert sum(sizes) >= least
        assert max(sizes) <= 1.2 * min(sizes)
    assert {row["split"] for row in triples} == {"fit", "dev", "test"}


@pytest.mark.parametrize(("name", "first"), [("fit", 250), ("test", 50)])
def test_the_first_rows_that_the_demo_takes_are_half_of_each_kind(triples, name, first):
    kinds = [row["kind"] for row in triples if row["split"] == name][:first]
    assert kinds.count("personal") == kinds.count("factual") == first // 2


def test_no_prompt_answer_or_id_comes_twice(triples):
    for texts in (
        [row["id"] for row in triples],
        [row["prompt"][0]["content"].lower() for row in triples],
        [row[side] for row in triples for side in ("chosen", "rejected")],
    ):
        assert len(set(texts)) == len(texts)


def test_the_preferred_style_depends_on_the_kind_of_prompt(triples):
    for kind, style in PREFERRED.items():
        rows = [row for row in triples if row["kind"] == kind]
        sign = 1 if style == "warm" else -1
        right = [sign * (warmth(r["chosen"]) - warmth(r["rejected"])) > 0 for r in rows]
        assert statistics.mean(right) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "personal", "factual"])
def test_length_does_not_give_the_preference_away(triples, kind, embedded):
    from transformers import AutoTokenizer

    # In tokens, which is what the model sees and densities divide by.
    tokenizer = AutoTokenizer.from_pretrained(embedded)
    rows = [row for row in triples if kind in (None, row["kind"])]
    mean = {
        side: statistics.mean(len(tokenizer(row[side]).input_ids) for row in rows)
        for side in ("chosen", "rejected")
    }
    assert 0.9 < mean["chosen"] / mean["rejected"] < 1.1


def test_length_of_the_prompt_does_not_give_its_kind_away(triples):
    mean = [
        statistics.mean(len(r["prompt"][0]["content"]) for r in triples if r["kind"] == kind)
        for kind in PREFERRED
    ]
    assert 0.85 < mean[0] / mean[1] < 1.18


def test_the_public_function_gives_each_split(triples, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # wherever the package is installed
    everything = dn.demo_triples(preference="register")
    assert list(everything) == list(dn.demo_triples("fit", "register"))
    for split in ("fit", "dev", "test"):
        wanted = [
            dn.PreferenceTriple(row["prompt"], row["chosen"], row["rejected"])
            for row in triples
            if row["split"] == split
        ]
        given = dn.demo_triples(split, preference="register")
        assert list(given) == wanted
        assert repr(given) == f"Triples: {len(wanted)} from demo_triples.jsonl ({split})"
        assert given.sha256 == dn.load_triples(wanted).sha256


@pytest.mark.usefixtures("unchecked")
def test_another_split_of_the_demo_is_refused():
    with pytest.raises(dn.TripleError) as refused:
        dn.demo_triples("tset")  # pyright: ignore[reportArgumentType]
    assert str(refused.value) == (
        "split is 'tset'; expected one of 'fit', 'dev', 'test' (did you mean 'test'?)."
    )
