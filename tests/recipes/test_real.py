"""The recipe of real preferences: its rows, its pieces on disk, its tables."""

import argparse
import gzip
import importlib
import json

import numpy as np
import pytest

from dspa_nn.triples import SPLITS
from tests import eval_zoo

WORDS = "sun moon red blue cat dog tea sea oak elm fog ice".split()
SPLIT = {"fit": range(20), "dev": range(20, 28), "test": range(28, 40)}


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(eval_zoo.REPOSITORY / "recipes"))
    recipe = importlib.import_module("real_preferences")
    data = importlib.import_module("_real.data")
    monkeypatch.setattr(recipe.dn.DSPA, "from_preset", lambda _: eval_zoo.dspa())
    monkeypatch.setitem(data.ROWS, "hh-rlhf", lambda split: SPLIT[split])
    return recipe


def dialogue(row, answer):
    return f"\n\nHuman: {WORDS[row % 12]} {row}?\n\nAssistant: {answer}"


def write(path, lines):
    text = "\n".join(json.dumps(line) for line in lines)
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.fixture
def source(tmp_path):
    lines = [
        {
            "chosen": dialogue(row, " ".join(WORDS[row % 5 : row % 5 + 4])),
            "rejected": dialogue(row, " ".join(WORDS[row % 7 + 1 : row % 7 + 4])),
        }
        for row in range(40)
    ]
    lines[3]["rejected"] = lines[3]["chosen"]  # no pair
    lines[22] = {key: text.replace(f"{WORDS[10]} 22", f"{WORDS[1]} 1") for key, text in
                 lines[22].items()}  # fmt: skip
    return write(tmp_path / "rows.jsonl.gz", lines)


def options(source, work, **changed):
    given = {
        "data": "hh-rlhf", "source": source, "work": work, "prompt": 64, "response": 3,
        "rows": (18, 6, 6), "splits": ("fit", "dev"), "sizes": (12, 18), "controls": (18,),
        "match": 4, "kl": 0.1, "preset": True, "test": 5, "prompts": 3, "tokens": 4,
    }  # fmt: skip
    work.mkdir(exist_ok=True)
    return argparse.Namespace(**{**given, **changed})


def test_rows_are_those_of_the_splits_and_openings_do_not_come_back(recipe, source):
    data = importlib.import_module("_real.data")
    splits = data.read_splits("hh-rlhf", source, eval_zoo.dspa(), data.Cut(64, 3, (20, 8, 3)))
    assert list(splits) == list(SPLITS)
    assert list(splits["fit"]) == [row for row in range(20) if row != 3]
    assert 22 not in splits["dev"]  # opens as row 1 does
    assert set(splits["dev"]) < set(SPLIT["dev"])
    assert list(splits["test"]) == [28, 29, 30]
    tokenizer = eval_zoo.dspa().facts.tokenizer
    for rows in splits.values():
        for triple in rows.values():
            assert len(tokenizer(triple.chosen, add_special_tokens=False).input_ids) <= 3


def test_what_is_kept_is_not_made_again_but_for_another_key(recipe, tmp_path):
    runs = importlib.import_module("_real.runs")
    made = []

    def make():
        made.append(1)
        return [len(made)]

    path = tmp_path / "a" / "piece.json"
    assert [runs.kept(path, key, make) for key in ("k", "k", "l", "l", "k")] == [
        [1], [1], [2], [2], [3],
    ]  # fmt: skip


def test_the_setting_is_the_best_within_the_limit_of_the_rules_that_rank_best(recipe):
    tuning = importlib.import_module("_real.tuning")
    votes = [(0.7, 50, "gated"), (0.6, 50, "density"), (0.5, 50, "centred")]
    rows = [
        {"change": change, "kl": kl, "setting": {"prompt_rule": rule}}
        for change, kl, rule in (
            (0.3, 0.5, "gated"), (0.1, 0.05, "gated"), (0.2, 0.1, "density"), (0.4, 0.02, "centred")
        )
    ]  # fmt: skip
    assert tuning.best_of(rows, votes, 0.1) == rows[2]
    assert tuning.best_of(rows, votes, 0.01) == rows[1]  # none is allowed: the mildest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")  # a tiny map may steer nothing
def test_every_command_runs_resumes_and_writes_its_tables(recipe, source, tmp_path, monkeypatch):
    tuning = importlib.import_module("_real.tuning")
    compare = importlib.import_module("_real.compare")
    monkeypatch.setattr(tuning, "STRENGTHS", ((4, "ablate", 1.0),))
    monkeypatch.setattr(tuning, "PERCENTILES", (50,))
    given = options(source, tmp_path / "work")
    for command in ("count", "tune", "measure", "answers"):
        recipe.COMMANDS[command](given)
    first = json.loads((given.work / "margins.json").read_text())
    names = ["map, N = 12", "map, N = 18", *(f"{name}, N = 18" for name in compare.CONTROLS)]
    assert list(first) == ["unsteered", *names, "preset's settings"]
    for figures in first.values():
        assert len(figures["chosen.change"]) == 5
        assert np.allclose(
            np.array(figures["chosen.log_prob"]) - first["unsteered"]["chosen.log_prob"],
            figures["chosen.change"],
        )
    assert np.abs(first["map, N = 18"]["rejected.change"]).max() > 0

    def no_model(*_, **__):
        raise AssertionError("what is on disk was made again")

    monkeypatch.setattr("_real.runs.margins", no_model)
    recipe.COMMANDS["measure"](given)
    assert json.loads((given.work / "margins.json").read_text()) == first
    recipe.COMMANDS["tables"](given)
    page = (given.work / "tables.md").read_text()
    for heading in ("Settings", "Margin on test rows", "The map less", "Answers", "From counts"):
        assert f"## {heading}" in page
    assert "| swapped, N = 18 |" in page
    results = json.loads((given.work / "results.json").read_text())
    assert set(results) == {"tuning", "margins", "answers"}
    assert not any("texts" in figures for figures in results["answers"].values())
