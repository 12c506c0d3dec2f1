"""The recipe that writes the triples about plans: resuming, cleaning and crossing."""

import importlib
import json
from collections import Counter

import pytest

from tests import tiny
from tests.conftest import REPOSITORY

CHEERS = "What a great plan! You will be so proud of it."
WARNS = "Be careful with that. You could fall and get hurt."
STYLES = {
    style: {
        "instruction": "Answer.",
        "examples": [{"user": f"sun {n}", "answer": f"moon {n}"} for n in range(4)],
    }
    for style in ("encouraging", "warning")
}


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    monkeypatch.setattr(importlib.import_module("make_news_triples"), "NEW_TOKENS", 3)
    return importlib.import_module("make_plan_triples")


def words(text):
    return len(text.split())


def plans(count):
    return [{"id": f"p{n:03d}", "plan": f"sun {n}."} for n in range(count)]


def answered(prompts):
    return [
        {"id": plan["id"], "style": style, "text": f"{text} Number {plan['id'][1:]} it is. And so"}
        for plan in prompts
        for style, text in (("encouraging", CHEERS), ("warning", WARNS))
    ]


def test_every_answer_is_tried_so_often_and_a_second_run_adds_nothing(recipe, tmp_path):
    model, tok = tiny.model("llama"), tiny.tokenizer("markup")
    tok.padding_side = "left"
    raw = tmp_path / "raw.jsonl"
    recipe.generate(raw, model, tok, plans(3), STYLES)  # random weights: nothing passes
    lines = recipe.read_lines(raw)
    assert Counter((row["id"], row["style"]) for row in lines) == {
        (plan["id"], style): recipe.TRIES for plan in plans(3) for style in STYLES
    }
    recipe.generate(raw, model, tok, plans(3), STYLES)
    assert recipe.read_lines(raw) == lines


def test_no_kept_sentence_is_of_the_other_style(recipe):
    assert recipe.keep(CHEERS + " That is", "encouraging", words) == (CHEERS, "")
    assert recipe.keep(CHEERS + " " + WARNS, "encouraging", words) == (CHEERS, "")
    assert recipe.keep(WARNS, "encouraging", words) == ("", "off style")
    assert recipe.keep("Great", "encouraging", words) == ("", "no whole sentence")
    refusal = "Be careful, since as an AI I am afraid of it."
    assert recipe.keep(refusal, "warning", words) == ("", "refusal")
    looping = "It is a risk, risk, risk, risk for you and for her."
    assert recipe.keep(looping, "warning", words) == ("", "looping")


def test_every_pair_of_answers_comes_twice_with_chosen_and_rejected_exchanged(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "HELD_OUT", {"test": 2, "dev": 1})
    prompts = plans(7)
    raw = answered(prompts)
    raw[3] = {**raw[3], "text": "Oh."}  # the second plan is left out
    raw[4] = {**raw[4], "text": raw[0]["text"]}  # and so is the third
    triples, dropped = recipe.clean(prompts, raw, words)
    assert dropped == {"off style": 1, "an answer that another plan has": 1}
    assert Counter((row["split"], row["kind"]) for row in triples) == {
        (split, kind): count
        for split, count in (("fit", 2), ("dev", 1), ("test", 2))
        for kind in ("encourage", "warn")
    }
    for first, second in zip(triples[0::2], triples[1::2], strict=True):
        assert (first["kind"], second["kind"]) == ("encourage", "warn")
        assert first["split"] == second["split"]
        assert (first["chosen"], first["rejected"]) == (second["rejected"], second["chosen"])
        assert first["chosen"].startswith(CHEERS)
        assert second["chosen"].startswith(WARNS)


def test_the_card_holds_the_figures(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "HELD_OUT", {"test": 1, "dev": 1})
    prompts = plans(4)
    triples, dropped = recipe.clean(prompts, answered(prompts), words)
    page = recipe.card(triples, dropped, 8, words)
    assert "| fit | 2 | 2 |" in page
    assert "{" not in page


def test_no_plan_comes_twice(recipe):
    texts = [row["plan"].lower() for row in recipe.read_lines(recipe.HERE / "plan_prompts.jsonl")]
    assert len(set(texts)) == len(texts)
    styles = json.loads((recipe.HERE / "plan_styles.json").read_text())
    assert set(styles) == set(recipe.STYLES)
