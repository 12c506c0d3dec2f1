"""`dspa evaluate`, on a tiny model and SAEs in folders."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dspa_nn.cli.app import app
from tests import tiny


def dspa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    tiny.model("llama").save_pretrained(folder / "model")
    tiny.tokenizer("markup").save_pretrained(folder / "model")
    for layer in (1, 2):
        sae: Any = tiny.random_sae("topk", layer=layer, width=24, seed=layer)
        sae.save_model(folder / f"sae-{layer}")
    rows = tiny.triples(24)
    for name, part in (("fit", rows[:8]), ("dev", rows[8:14]), ("test", rows[14:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    fitted = dspa(
        "fit", folder / "fit.jsonl", "--out", folder / "map", "--percentile", 50, *model(folder)
    )
    assert fitted.exit_code == 0, fitted.output
    return folder


def model(folder: Path) -> tuple[object, ...]:
    return (
        "--model", folder / "model", "--input-sae", folder / "sae-1", "--output-sae",
        folder / "sae-2",
    )  # fmt: skip


def evaluate(folder: Path, *arguments: object) -> Result:
    return dspa(
        "evaluate", folder / "map", "--dev", folder / "dev.jsonl", "--max-new-tokens", 2,
        *model(folder), *arguments,
    )  # fmt: skip


@pytest.mark.slow
def test_a_page_and_a_json_are_written_and_the_verdicts_printed(folder: Path) -> None:
    out = folder / "receipt"
    run = ("--triples", folder / "test.jsonl", "--out", out)
    told = evaluate(folder, *run)
    assert told.exit_code == 0, told.output
    assert "On 10 held-out prompts the margin" in told.stdout
    assert (out / "receipt.html").read_text().startswith("<!doctype html>")
    again = evaluate(folder, *run, "--json")
    assert json.loads(again.stdout)["name"] == "map"
    assert (
        json.loads(again.stdout)["methods"]
        == json.loads((out / "receipt.json").read_text())["methods"]
    )


def test_the_maps_own_triples_are_refused_in_one_sentence(folder: Path) -> None:
    told = evaluate(folder, "--triples", folder / "fit.jsonl", "--out", folder / "none")
    assert told.exit_code == 1
    assert "the map was fitted on all 8 of the held-out triples" in told.stderr
    assert not (folder / "none" / "receipt.html").exists()
