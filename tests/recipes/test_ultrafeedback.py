"""The recipe of held-out accuracies: its dense arithmetic, its split, its tables."""

import argparse
import importlib
import json

import numpy as np
import pytest

from dspa_nn.evaluation import accuracy, global_accuracy, scores, selected
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.triples import ultrafeedback_rows
from tests import eval_zoo


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(eval_zoo.REPOSITORY / "recipes"))
    return importlib.import_module("ultrafeedback_accuracy")


@pytest.fixture
def split():
    counts = eval_zoo.counts()
    return counts.subset(range(12)), counts.subset(range(12, 20))


@pytest.mark.parametrize("rule", ["density", "gated", "centred"])
@pytest.mark.parametrize("gate", ["active", "literal"])
@pytest.mark.parametrize("tokens", ["content", "all"])
def test_dense_scores_are_those_of_the_map(recipe, split, rule, gate, tokens):
    own, test = split
    for percentile, sparsify in ((50, "none"), (90, "none"), (50, "paper")):
        map = own.fit(
            percentile=percentile, gate=gate, sparsify=sparsify, k_diff=3, prompt_tokens=tokens
        )
        fitted = recipe.fit_dense(own, percentile, gate, tokens)
        dense = recipe.combined(fitted, test, rule, sparsify, 3)
        voted = scores(map, test, prompt_rule=rule, k_prompt=DEFAULTS["k_prompt"])
        assert np.allclose(dense, voted, atol=1e-5)
        assert np.abs(dense).max() > 0.01


def test_rows_keeps_each_rows_ends(recipe):
    A = np.array([[0.1, -0.3, 0.2, 0.0, 0.4, -0.2, -0.1]], dtype=np.float32)
    dense = importlib.import_module("_accuracy.dense")
    assert np.flatnonzero(dense.sparse(A, "rows", 2)).tolist() == [1, 2, 4, 5]
    # The paper's threshold is the least of those, 0.2, and spares nothing below it.
    assert np.flatnonzero(dense.sparse(A, "paper", 2)).tolist() == [1, 2, 4, 5]
    assert dense.sparse(A, "paper", 4).tolist() == A.tolist()


def test_every_draw_judges_what_the_library_judges(recipe, split, monkeypatch):
    own, test = split
    monkeypatch.setattr(recipe, "K_DIFF", 3)
    values = {}
    recipe.resample(own, test, 12, 0, values)
    assert len(values) == 3 + (5 * 2 * 2 + 2 * 2 * 2) * 3 * 3
    assert values["global|full"][0].tolist() == global_accuracy(own, test).tolist()
    map = own.fit(percentile=50, sparsify="none", prompt_tokens="all")
    expected = accuracy(map, test, prompt_rule="gated", steered=(3, "ablate"))
    assert values["none|all|50|active|gated|ablate"][0].tolist() == expected.tolist()
    assert selected(scores(map, test, prompt_rule="gated"), 3, "ablate").max() == 0


def test_counts_take_the_agreed_rows_and_the_grid_writes_tables(recipe, tmp_path, monkeypatch):
    words = "sun moon red blue cat dog tea sea oak elm fog ice".split()
    lines = []
    for row in range(800):
        pair = words[row % 12], words[(row * 5 + 1) % 12]
        same = row == 3 or pair[0] == pair[1]
        lines.append(
            {"prompt": f"{pair[0]}?", "chosen": pair[0], "rejected": pair[0] if same else pair[1]}
        )
    source = tmp_path / "triples.jsonl"
    source.write_text("\n".join(json.dumps(line) for line in lines))
    found = recipe.numbered(source, 1024, len)
    assert 3 not in found
    assert found[4].chosen == words[4]
    assert all(len(own.chosen) <= 3 for own in recipe.numbered(source, 3, len).values())

    monkeypatch.setattr(recipe.dn.DSPA, "from_preset", lambda _: eval_zoo.dspa())
    monkeypatch.setattr(recipe, "ultrafeedback_rows", lambda s: ultrafeedback_rows(s)[-20:])
    monkeypatch.setattr(recipe, "read_demo_rows", lambda _: eval_zoo.rows())
    monkeypatch.setattr(recipe, "settings", lambda: [("none", "content", 50, "active")])
    options = argparse.Namespace(
        source=source, work=tmp_path / "work", longest=1024, out=tmp_path / "out" / "table",
        size=250, draws=2,
    )  # fmt: skip
    recipe.count(options)
    recipe.grid(options)
    tables = json.loads((tmp_path / "out" / "table.json").read_text())
    used = [row for s in ("fit", "test") for row in ultrafeedback_rows(s)[-20:]]
    expected = sum(row in found for row in used if row in ultrafeedback_rows("test"))
    assert tables["ultrafeedback"]["test"] == expected
    assert set(tables["demo"]["accuracy"]) >= {"longer wins", "global|full"}
    page = (tmp_path / "out" / "table.md").read_text()
    assert "## ultrafeedback: N = " in page
    assert "| none | content | 50 | active | gated |" in page
