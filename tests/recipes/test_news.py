"""The recipe that writes the triples about news: sampling, resuming, cleaning and crossing."""

import importlib
import json
from collections import Counter

import pytest

from tests import tiny
from tests.conftest import REPOSITORY

GLAD = "Congratulations! I am so happy for you and for your friend."
SORRY = "I'm so sorry to hear that. It must be hard for you."
STYLES = {
    style: {
        "instruction": "Answer.",
        "examples": [{"user": f"sun {n}", "answer": f"moon {n}"} for n in range(4)],
    }
    for style in ("glad", "sorry")
}


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    module = importlib.import_module("make_news_triples")
    monkeypatch.setattr(module, "NEW_TOKENS", 3)
    return module


def words(text):
    return len(text.split())


def twins(count):
    return [{"id": f"n{n:03d}", "good": f"sun {n}.", "bad": f"fog {n}."} for n in range(count)]


def answered(prompts):
    return [
        {"id": twin["id"], "style": style, "text": f"{text} Number {twin['id'][1:]} it is. And so"}
        for twin in prompts
        for style, text in (("glad", GLAD), ("sorry", SORRY))
    ]


def test_every_answer_is_tried_so_often_and_a_second_run_adds_nothing(recipe, tmp_path):
    model, tok = tiny.model("llama"), tiny.tokenizer("markup")
    tok.padding_side = "left"
    raw = tmp_path / "raw.jsonl"
    recipe.generate(raw, model, tok, twins(3), STYLES)  # random weights: nothing passes
    lines = recipe.read_lines(raw)
    assert Counter((row["id"], row["style"]) for row in lines) == {
        (twin["id"], style): recipe.TRIES for twin in twins(3) for style in STYLES
    }
    recipe.generate(raw, model, tok, twins(3), STYLES)
    assert recipe.read_lines(raw) == lines


def test_a_batch_of_messages_reads_what_precedes_them_once(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "TEMPERATURE", 1e-3)  # as good as greedy
    model, tok = tiny.model("llama"), tiny.tokenizer("markup")
    tok.padding_side = "left"
    before = recipe.prefix(STYLES["glad"], 3)
    assert [message["content"] for message in before] == [
        "Answer.", "sun 3", "moon 3", "sun 0", "moon 0",
    ]  # fmt: skip
    together = recipe.sample(model, tok, before, ["cat", "dog and sea"])
    apart = [recipe.sample(model, tok, before, [text])[0] for text in ("cat", "dog and sea")]
    assert together == apart


def test_what_is_kept_is_the_longest_opening_in_style(recipe):
    assert recipe.keep(GLAD + " That is", "glad", words) == (GLAD, "")
    assert recipe.keep(GLAD + " I am sorry, sorry, sorry.", "glad", words) == (GLAD, "")
    assert recipe.keep(GLAD, "sorry", words) == ("", "off style")
    assert recipe.keep("Congratulations", "glad", words) == ("", "no whole sentence")
    assert recipe.keep("Great! As an AI I am happy to say so now.", "glad", words) == (
        "", "refusal",
    )  # fmt: skip
    looping = "I am happy, happy, happy, happy for you and for her."
    assert recipe.keep(looping, "glad", words) == ("", "looping")


def test_every_pair_of_answers_comes_twice_with_chosen_and_rejected_exchanged(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "HELD_OUT", {"test": 2, "dev": 1})
    prompts = twins(6)
    raw = answered(prompts)
    raw[3] = {**raw[3], "text": "Oh."}  # the second twin is left out
    triples, dropped = recipe.clean(prompts, raw, words)
    assert dropped == {"off style": 1}
    assert Counter((row["split"], row["kind"]) for row in triples) == {
        (split, kind): count
        for split, count in (("fit", 2), ("dev", 1), ("test", 2))
        for kind in ("good", "bad")
    }
    for good, bad in zip(triples[0::2], triples[1::2], strict=True):
        assert (good["kind"], bad["kind"]) == ("good", "bad")
        assert good["split"] == bad["split"]
        assert (good["chosen"], good["rejected"]) == (bad["rejected"], bad["chosen"])
        assert good["chosen"].startswith(GLAD)
        assert bad["chosen"].startswith(SORRY)


def test_an_answer_that_another_twin_has_is_dropped(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "HELD_OUT", {"test": 1, "dev": 0})
    prompts = twins(3)
    raw = answered(prompts)
    raw[4] = {**raw[4], "text": raw[0]["text"]}
    triples, dropped = recipe.clean(prompts, raw, words)
    assert dropped == {"an answer that another twin has": 1}
    assert {row["id"][:4] for row in triples} == {"n000", "n001"}


def test_the_card_holds_the_figures(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "HELD_OUT", {"test": 1, "dev": 1})
    prompts = twins(4)
    triples, dropped = recipe.clean(prompts, answered(prompts), words)
    page = recipe.card(triples, dropped, 8, words)
    assert "| fit | 2 | 2 |" in page
    assert "{" not in page


def test_no_prompt_comes_twice(recipe):
    prompts = recipe.read_lines(REPOSITORY / "recipes" / "news_prompts.jsonl")
    texts = [twin[kind].lower() for twin in prompts for kind in ("good", "bad")]
    assert len(set(texts)) == len(texts)
    styles = json.loads((REPOSITORY / "recipes" / "news_styles.json").read_text())
    assert set(styles) == set(recipe.STYLES)
