"""The recipe that tunes a preset: what it reads, and its ranking."""

import argparse
import importlib

import pytest

from tests import eval_zoo
from tests.conftest import REPOSITORY


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    return importlib.import_module("tune_preset")


def test_the_grid_is_ranked_by_the_development_margin(recipe):
    options = argparse.Namespace(
        fit=20, dev=10, keep=1, k_diff=[2, 4], mode=["ablate"], alpha=[0.5], kl=9.0,
        perplexity=99.0, check=2, answers=4,
    )  # fmt: skip
    found = recipe.tune(eval_zoo.dspa(), eval_zoo.rows(), options)
    assert len(found) == 6  # one of each prompt rule, with each k_diff
    changes = [own["change"] for own in found]
    assert changes[2:] == sorted(changes[2:], reverse=True)
    assert max(changes[:2]) >= changes[2]
    assert all("perplexity_ratio" in own for own in found[:2])
    strict = argparse.Namespace(**{**vars(options), "kl": 0.0, "check": 1})
    assert recipe.tune(eval_zoo.dspa(), eval_zoo.rows(), strict)[0]["kl"] > 0


def test_test_triples_are_never_read(recipe):
    rows = [row for row in eval_zoo.rows() if row.split != "test"]
    options = argparse.Namespace(
        fit=20, dev=6, keep=1, k_diff=[2], mode=["ablate"], alpha=[0.5], kl=9.0, perplexity=99.0,
        check=1, answers=2,
    )  # fmt: skip
    assert recipe.tune(eval_zoo.dspa(), rows, options)
