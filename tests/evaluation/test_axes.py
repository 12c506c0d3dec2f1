"""The style axes: what they say of themselves holds, and what is not measurable says so."""

from dataclasses import replace

import numpy as np
import pytest

from dspa_nn import DSPAWarning
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import AXES, Interval, axes, read_style_pairs, style_axes, validate_axis


@pytest.mark.parametrize("key", AXES)
def test_an_axis_ranks_the_pairs_kept_apart_as_it_says(key):
    axis = AXES[key]
    assert validate_axis(axis.score, key) == axis.accuracy
    assert axis.accuracy.n == 40
    assert axis.measurable == (axis.accuracy.mean >= 0.75)


def test_pairs_are_enough_differ_and_none_is_in_both_splits():
    for key in AXES:
        tune, apart = (read_style_pairs(key, split) for split in ("tune", "apart"))
        assert len(tune) == 52
        assert len(apart) == 40
        texts = [text for pair in [*tune, *apart] for text in (pair.high, pair.low)]
        assert len(set(texts)) == len(texts)
        assert all(text.strip() == text and text for text in texts)


@pytest.mark.parametrize("text", ["", "   ", "...", "\u2603"])
def test_text_without_words_has_finite_scores(text):
    assert all(np.isfinite(values).all() for values in style_axes(text).values())


def test_typographic_apostrophes_and_case_do_not_matter():
    plain, fancy = "It's PERHAPS what I don't know.", "it\u2019s perhaps what i don\u2019t know."
    for key in ("direct", "task", "proactive", "certain", "creative"):
        assert AXES[key].score(plain) == AXES[key].score(fancy)


def test_an_axis_below_the_limit_is_left_out_and_warns_where_it_is_named(monkeypatch):
    weak = replace(AXES["creative"], accuracy=Interval(0.62, 0.5, 0.74, 40))
    monkeypatch.setitem(AXES, "creative", weak)
    assert "creative" not in style_axes(["The fog came like a cat."])
    assert str(weak).endswith(": not measurable")
    told = "creative/literal is not measurable: its scorer ranks 0.62 of 40 labelled pairs rightly"
    with pytest.warns(DSPAWarning, match=told):
        scores = style_axes(["The fog came like a cat."], ["creative"])
    assert scores["creative"][0] > 0


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_axis_is_refused_in_one_sentence():
    with pytest.raises(DSPAError, match=r"axis is 'concize'.*did you mean 'concise'"):
        style_axes("text", ["concize"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DSPAError, match="split is 'test'"):
        read_style_pairs("concise", "test")


@pytest.mark.slow
def test_what_the_axes_say_was_written_by_the_recipe(monkeypatch):
    import importlib
    import json

    from tests.conftest import REPOSITORY

    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    recipe = importlib.import_module("validate_style_axes")
    found = recipe.measured()
    assert json.loads(recipe.ASSET.read_text()) == json.loads(json.dumps(found))
    page = (REPOSITORY / "docs" / "measures.md").read_text()
    for line in recipe.tables(found):
        assert line in page


def test_the_table_is_keyed_by_the_high_end():
    assert [axis.high for axis in AXES.values()] == list(AXES)
    assert axes.LEAST == 0.75


def test_function_words_are_not_certain_and_certainty_is_no_caveat() -> None:
    score = AXES["certain"].score
    assert score("the the the") == score("The lake is near the house.") == 0
    assert score("It is certain.") > 0
    assert score("I could be wrong.") < 0 < score("That is wrong.")
    assert score("The only way.") == pytest.approx(1 / 3)
