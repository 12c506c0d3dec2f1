"""The recipe that tunes a preset: what it reads, and that its best is the best within the limit."""

import argparse
import importlib

import pytest

from tests import eval_zoo
from tests.conftest import REPOSITORY


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    return importlib.import_module("tune_preset")


@pytest.mark.slow
def test_the_best_is_that_of_the_development_margin_and_test_triples_are_never_read(
    recipe, tmp_path
):
    rows = [row for row in eval_zoo.rows() if row.split != "test"]
    options = argparse.Namespace(
        fit=20, dev=10, keep=1, trials=6, kl=9.0, perplexity=99.0, answers=4, out=tmp_path
    )
    found = recipe.search(eval_zoo.dspa(), rows, options)
    assert len(found.trials) == 6
    assert found.region.best.margin == max(trial.margin for trial in found.trials)
    assert "perplexity_ratio" in found.region.best.extra
    strict = argparse.Namespace(**{**vars(options), "kl": 1e-9, "out": tmp_path / "strict"})
    assert recipe.search(eval_zoo.dspa(), rows, strict).region is None
