"""The recipe that measures the demo's maps over alpha: what is measured is drawn, and not again."""

import importlib
import json

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_curves_are_measured_once_and_drawn(monkeypatch, tmp_path, embedded):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    recipe = importlib.import_module("alpha_curves")
    monkeypatch.setattr(recipe, "SETS", {"news": recipe.SETS["news"]})
    arguments = ["alpha_curves", "--out", str(tmp_path), "--triples", "4", "--alphas", "0.4"]
    monkeypatch.setattr("sys.argv", arguments)
    recipe.main()
    told = json.loads((tmp_path / "news-both.json").read_text())
    assert (told["n"], told["n_fit"]) == (4, 4)
    assert recipe.curve_of(told["rows"])[0].alpha == 0.4
    assert recipe.curve_of(told["rows"]).to_pandas().to_dict("records") == told["rows"]
    assert "news, both (n = 4)" in (tmp_path / "alpha.svg").read_text()
    monkeypatch.setattr(recipe, "measure", None)
    recipe.main()
