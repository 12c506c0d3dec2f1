"""The recipe of personas: effects, responses that are kept line by line, tables."""

import argparse
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import eval_zoo, tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(eval_zoo.REPOSITORY / "recipes"))
    recipe: Any = importlib.import_module("personas")
    data: Any = importlib.import_module("_real.data")
    monkeypatch.setattr(recipe.dn.DSPA, "from_preset", lambda _: eval_zoo.dspa())
    split = {"fit": range(5), "dev": range(5, 9), "test": range(9, 13)}
    monkeypatch.setitem(data.ROWS, "ultrafeedback", lambda name: split[name])
    monkeypatch.setattr(recipe, "ALPHAS", (0.2, 0.4, 1.0))
    monkeypatch.setattr(recipe, "SIZES", (3,))
    # Every axis of 52 pairs is counted otherwise, which a tiny model need not show.
    monkeypatch.setattr(recipe, "style_candidates", lambda *_, **__: list(range(12)))
    return recipe


def test_it_measures_chooses_and_tells(recipe: Any, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(13, seed=2)))
    given = argparse.Namespace(
        source=source, work=tmp_path, device="cpu", prompts=4, dev=2, test=3, longest=200,
        tokens=3, batch=8, candidates=2, least=0.1,
    )  # fmt: skip
    recipe.effects(given)
    found = recipe.AxisEffects.load(tmp_path / "effects.json")
    assert found.prompts == 4
    moving = eval_zoo.effects()
    few = {name: getattr(moving, name)[:, :2] for name in ("effect", "error")}
    few = replace(moving, axes=moving.axes[:2], spread=moving.spread[:2], **few)
    few.save(tmp_path / "effects.json")
    recipe.respond(given)
    lines = (tmp_path / "responses.jsonl").read_text()
    recipe.respond(given)
    assert (tmp_path / "responses.jsonl").read_text() == lines
    recipe.tables(given)
    told = (tmp_path / "tables.md").read_text()
    assert told.count("| concise/verbose |") == 1
    assert "| verbose |" in told
    rows = [line for line in told.splitlines() if "| both |" in line]
    assert len(rows) == 5 * 3


def test_axes_are_graded_both_ways(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(13, seed=2)))
    moving = eval_zoo.effects()
    few = {name: getattr(moving, name)[:, :2] for name in ("effect", "error")}
    few = replace(moving, axes=moving.axes[:2], spread=moving.spread[:2], **few)
    monkeypatch.setattr(recipe, "known_effects", lambda _: few)
    given = argparse.Namespace(
        source=source, work=tmp_path, device="cpu", test=2, longest=200, tokens=3, batch=8,
        axes=["concise"], end="both", latents=2, mode="ablate", alphas=[0.5, 1.0], contrast=False,
        split="test", first=1,
    )  # fmt: skip
    recipe.graded(given)
    given.contrast, given.mode = True, "both"
    recipe.graded(given)
    recipe.graded(given)
    lines = [json.loads(line) for line in (tmp_path / "graded.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 2 * 2  # ways, ends, strengths
    assert {line["n"] for line in lines} == {2}
    recipe.tables(given)
    told = (tmp_path / "tables.md").read_text()
    assert told.count("| labelled pairs | 2 | both | verbose |") == 2
    assert told.count("| effects | 2 | ablate | concise |") == 2
