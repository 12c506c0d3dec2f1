"""The recipe of the comparison: every part runs, resumes and prints its tables."""

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from dspa_nn.evaluation import accuracy, global_accuracy
from tests import eval_zoo


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(eval_zoo.REPOSITORY / "recipes"))
    recipe = importlib.import_module("arena")
    sets, studies, methods, tuning = (
        importlib.import_module(name)
        for name in ("_arena.sets", "_arena.studies", "_arena.methods", "_real.tuning")
    )
    monkeypatch.setattr(recipe.dn.DSPA, "from_preset", lambda _: eval_zoo.dspa())
    monkeypatch.setattr(recipe, "sweep_of", lambda _: eval_zoo.sweep())
    monkeypatch.setattr(sets, "read_demo_rows", lambda _: eval_zoo.rows(72))
    monkeypatch.setattr(methods, "SHARES", (0.05, 0.2))
    monkeypatch.setattr(methods, "STRENGTHS", ((4, "ablate", 1.0), (4, "both", 0.2)))
    monkeypatch.setattr(tuning, "PERCENTILES", (50,))
    monkeypatch.setattr(studies, "SIZES", (6, 12))
    monkeypatch.setattr(studies, "RESAMPLINGS", 2)
    monkeypatch.setattr(studies, "RANKING_SIZES", (6, 12))
    monkeypatch.setattr(studies, "RANKINGS", 2)
    whole = studies.around

    def some(default):
        return {axis: rows[:2] for axis, rows in whole(default).items()}

    monkeypatch.setattr(studies, "around", some)
    return recipe


def run(recipe, monkeypatch, command, work, *given):
    sizes = ["--fit", "14", "--dev", "6", "--test", "8", "--prompts", "3", "--tokens", "4",
             "--study", "4"]  # fmt: skip
    arguments = ["arena.py", command, "register", "--work", str(work), *sizes, *given]
    monkeypatch.setattr(sys, "argv", arguments)
    recipe.main()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")  # a tiny map may steer nothing
def test_every_part_runs_resumes_and_prints_its_tables(recipe, tmp_path, monkeypatch, capsys):
    parts = [part for part in recipe.COMMANDS if part != "tables"]
    for part in parts:
        run(recipe, monkeypatch, part, tmp_path)
    chosen = json.loads((tmp_path / "tuning.json").read_text())["value"]["best"]
    assert chosen["random map"] == chosen["DSPA"]
    found = json.loads((tmp_path / "margins-all.json").read_text())
    assert list(found) == ["unsteered", *chosen]
    assert {"prompt prefix", "RepE", "CAA", "CAST", "Static-SAE", "DSPA"} < set(found)
    for figures in found.values():
        assert len(figures["chosen.change"]) == 8
    capsys.readouterr()
    run(recipe, monkeypatch, "tables", tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("### register: ") == 8
    for name in chosen:
        assert printed.count(f"| {name} |") >= 3
    assert "creative/literal" in printed
    assert "| layers | [0, 2] |" in printed
    assert "| layers | [1, 2] |" in printed

    def no_model(*_, **__):
        raise AssertionError("what is on disk was made again")

    for name in ("_real.runs.margins", "arena.answer", "arena.branching_factor",
                 "_arena.studies.answer", "arena.activations"):  # fmt: skip
        monkeypatch.setattr(name, no_model)
    for part in parts:
        run(recipe, monkeypatch, part, tmp_path)
    capsys.readouterr()
    run(recipe, monkeypatch, "tables", tmp_path)
    assert capsys.readouterr().out == printed


def test_what_is_not_run_yet_has_no_table(recipe, tmp_path):
    tables = importlib.import_module("_arena.tables")
    assert tables.page("register", tmp_path, {}) == ["## register", ""]


def test_the_best_setting_is_within_the_limit_or_the_mildest(recipe):
    rows = [{"change": 0.3, "kl": 0.4}, {"change": 0.1, "kl": 0.1}, {"change": 0.2, "kl": 0.12}]
    assert recipe.best_of(rows, 0.15) == rows[2]
    assert recipe.best_of(rows, 0.05) == rows[1]


def test_a_resampling_is_of_different_triples_and_always_the_same(recipe):
    studies = importlib.import_module("_arena.studies")
    first, again, other = (studies.drawn(250, 25, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 25
    assert sorted(first) == first


@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")
def test_ranking_by_products_is_ranking_by_the_whole_map(recipe):
    studies = importlib.import_module("_arena.studies")
    counts = eval_zoo.counts(40)
    fitting, test = counts.subset(range(24)), counts.subset(range(24, 40))
    rows = studies.drawn(24, 12, 0)
    found = studies.ranks(fitting, rows, test)
    fitted = fitting.subset([fitting.index[row] for row in rows])
    for name, (percentile, rule) in studies.RULES.items():
        map = fitted.fit(percentile=percentile, sparsify="none")
        assert found[name] == accuracy(map, test, prompt_rule=rule, k_prompt=32).mean()
    assert found["one global difference"] == global_accuracy(fitted, test).mean()


def test_a_part_of_what_was_taken_is_that_of_these_triples(recipe):
    methods = importlib.import_module("_arena.methods")
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(6)
    taken = recipe.activations(dspa, triples)
    fitted = methods.Fitted(dspa, dspa.count(triples), taken, 1.0)
    part = fitted.of([1, 4])
    assert list(part.counts.index) == [1, 4]
    assert np.allclose(part.taken.chosen, taken.chosen[[1, 4]])
    assert len(fitted.taken) == 6
    assert replace(fitted).made is not fitted.made
