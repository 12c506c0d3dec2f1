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


def test_tables_hold_the_figures_of_each_method(recipe, tmp_path):
    """Signs, sides and ratios, of figures that are the same for all triples."""
    tables = importlib.import_module("_arena.tables")
    names = ("log_prob", "change", "kl")
    figures = {
        "unsteered": ((-2.0, 0, 0), (-1.0, 0, 0)),
        "map": ((-1.5, 0.5, 0.1), (-1.8, -0.8, 0.3)),
    }
    given = {
        method: {
            f"{side}.{name}": [value] * 4
            for side, values in zip(("chosen", "rejected"), both, strict=True)
            for name, value in zip(names, values, strict=True)
        }
        for method, both in figures.items()
    }
    (tmp_path / "margins-all.json").write_text(json.dumps(given))
    (tmp_path / "lengths-test.json").write_text(json.dumps([[9, 12, 10]] * 4))
    effect, accuracy = [
        line for line in tables.effects(tmp_path, {"map": 2.5e12}) if line.startswith("| map")
    ]
    cells = [cell.split()[0] for cell in effect.split("|")[2:-1]]
    assert cells == ["+1.300", "+0.500", "-0.800", "+1.300", "0.200", "2.50"]
    # The map ranks all of them rightly, and the unsteered model none.
    assert [cell.split()[0] for cell in accuracy.split("|")[2:-1]] == [
        "1.000",
        "1.000",
        "nan",
        "+1.000",
    ]

    (tmp_path / "answers").mkdir()
    (tmp_path / "sampled").mkdir()
    for method, logs, text in (("unsteered", 1.0, "Yes."), ("map", 1.5, "No, never.")):
        said = {"texts": [text] * 3, "ids": [[7] * 9] * 3, "log_perplexity": [logs] * 3}
        (tmp_path / "answers" / f"{method}.json").write_text(json.dumps(said))
        (tmp_path / "sampled" / f"{method}.json").write_text(json.dumps({"entropy": [logs] * 3}))
    said, moved = [line for line in tables.answered(tmp_path) if line.startswith("| map")]
    cells = [cell.strip() for cell in said.split("|")[2:-1]]
    assert cells[0] == "3 of 3"
    assert cells[1].startswith("1.649 [")  # e ** 0.5
    assert (cells[2], cells[3][:5], cells[4][:5], cells[5]) == ("9.0", "0.125", "0.833", "3 of 3")
    assert moved.split("|")[2].strip().startswith("-0.693")  # two words in place of one
    (factor,) = [line for line in tables.sampled(tmp_path) if line.startswith("| map")]
    assert [cell.split()[0] for cell in factor.split("|")[2:-1]] == ["4.482", "1.649"]


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
