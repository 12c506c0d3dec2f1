"""The embedded triples about plans: well formed, crossed, in style, and split by plan."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dspa_nn as dn
from dspa_nn.evaluation import encouragement

FILE = Path(__file__).parents[2] / "dspa_nn" / "assets" / "demo_plans.jsonl"
KEYS = {"id", "kind", "split", "prompt", "chosen", "rejected", "chosen_style"}
PREFERRED = {"encourage": "encouraging", "warn": "warning"}


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
    assert [row["kind"] for row in triples] == ["encourage", "warn"] * (len(triples) // 2)
    assert FILE.stat().st_size <= 300_000


def test_each_pair_of_answers_is_chosen_once_and_rejected_once(triples):
    for first, second in zip(triples[0::2], triples[1::2], strict=True):
        assert first["id"].removesuffix("-encourage") == second["id"].removesuffix("-warn")
        assert first["split"] == second["split"]
        assert (first["chosen"], first["rejected"]) == (second["rejected"], second["chosen"])


def test_no_plan_and_no_answer_is_in_two_pairs(triples):
    for texts in (
        [row["id"] for row in triples],
        [row["prompt"][0]["content"].lower() for row in triples],
        [row["chosen"] for row in triples],
    ):
        assert len(set(texts)) == len(texts)


def test_answers_are_in_style(triples):
    for row in triples:
        sign = 1 if row["kind"] == "encourage" else -1
        assert encouragement(row["chosen"]) == sign
        assert encouragement(row["rejected"]) == -sign


def test_the_public_function_gives_each_split(triples, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # wherever the package is installed
    for split in ("fit", "dev", "test"):
        wanted = [
            dn.PreferenceTriple(row["prompt"], row["chosen"], row["rejected"])
            for row in triples
            if row["split"] == split
        ]
        given = dn.demo_triples(split, preference="plans")
        assert list(given) == wanted
        assert repr(given) == f"Triples: {len(wanted)} from demo_plans.jsonl ({split})"
