"""`dspa tune`, on a tiny model and SAEs in folders."""

import json
import shlex
from itertools import pairwise
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
    folder = tmp_path_factory.mktemp("tune")
    tiny.model("llama").save_pretrained(folder / "model")
    tiny.tokenizer("markup").save_pretrained(folder / "model")
    for layer in range(3):
        sae: Any = tiny.random_sae("topk", layer=layer, width=24, seed=layer)
        sae.save_model(folder / f"sae-{layer}")
    rows = tiny.triples(16)
    (folder / "triples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tune(folder: Path, *arguments: object) -> Result:
    return dspa(
        "tune", folder / "triples.jsonl", "--model", folder / "model", "--input-sae",
        f"1={folder / 'sae-1'}", "--output-sae", f"2={folder / 'sae-2'}", "--percentile", 50,
        "--k-diff", 4, "--perplexity", 0, "--kl", 9, "--trials", 3, *arguments,
    )  # fmt: skip


@pytest.mark.slow
def test_layers_are_searched_and_the_commands_told(folder: Path, tmp_path: Path) -> None:
    run = ("--input-sae", f"0={folder / 'sae-0'}", "--out", tmp_path, "--mode", "ablate")
    told = tune(folder, *run)
    assert told.exit_code == 0, told.output
    assert "3 settings" in told.stdout
    lines = [line.strip() for line in told.stdout.splitlines() if line.startswith("  dspa ")]
    assert len(lines) == 2
    for line in lines:  # they name the model, and the SAEs of the layers that were chosen
        options = shlex.split(line)
        given = dict(pairwise(options))
        assert given["--model"] == str(folder / "model")
        pair = given["--layers"].split(",")
        assert given["--input-sae"] == str(folder / f"sae-{pair[0]}")
        assert given["--output-sae"] == str(folder / "sae-2")
        assert "--chat" not in options
    fitted = dspa(*shlex.split(lines[0].replace("my_map", str(tmp_path / "my_map")))[1:])
    assert fitted.exit_code == 0, fitted.output
    plot = told.stdout.split("\n\n")[0].splitlines()
    assert max(map(len, plot)) <= 80
    again = tune(folder, *run, "--json")
    report = json.loads(again.stdout)
    assert report["triples"] == {"fit": 13, "dev": 3}
    assert {trial["steer"]["mode"] for trial in report["trials"]} == {"ablate"}
    assert report == json.loads((tmp_path / "tuning.json").read_text())


@pytest.mark.slow
def test_the_commands_read_prompts_as_the_search_did(folder: Path, tmp_path: Path) -> None:
    """Single SAEs may name their layer, too."""
    told = tune(folder, "--out", tmp_path, "--chat")
    assert told.exit_code == 0, told.output
    lines = [line for line in told.stdout.splitlines() if line.startswith("  dspa ")]
    assert len(lines) == 2
    for line in lines:
        assert "--layers 1,2 --chat" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--alpha", "much"), "--alpha is 'much'; give the least and the greatest, as 0.1,1"),
        (("--mode", "ablte"), "mode is 'ablte', and must be one of"),
        (("--dev-share", "1.0"), "has 16 triples, and 16 of them would be compared on"),
        (("--dev-share", "0"), "has 16 triples, and 0 of them would be compared on"),
        (("--input-sae", "0=x", "--layers", "0,2"), "--layers 0,2 came with SAEs of several"),
    ],
)
def test_bad_options_get_one_sentence(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    told = tune(folder, "--out", tmp_path, *arguments)
    assert told.exit_code == 1
    assert sentence in told.stderr
