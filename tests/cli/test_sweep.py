"""`dspa sweep`, on a tiny model and SAEs in folders."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dspa_nn import SweepCounts
from dspa_nn.cli.app import app
from tests import tiny


def dspa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, triples and SAEs of layers 0 to 3."""
    folder = tmp_path_factory.mktemp("sweep")
    tiny.model("llama").save_pretrained(folder / "model")
    tiny.tokenizer("markup").save_pretrained(folder / "model")
    for layer in range(4):
        sae: Any = tiny.random_sae("topk", layer=layer, width=24, seed=layer)
        sae.save_model(folder / f"sae-{layer}")
    rows = tiny.triples(12)
    (folder / "triples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def sweep(folder: Path, *arguments: object) -> Result:
    saes = [
        ("--input-sae", f"0={folder / 'sae-0'}"),
        ("--input-sae", folder / "sae-1"),  # names its layer itself
        ("--output-sae", f"2={folder / 'sae-2'}"),
        ("--output-sae", f"3={folder / 'sae-3'}"),
    ]
    flat = [part for pair in saes for part in pair]
    return dspa(
        "sweep", folder / "triples.jsonl", "--model", folder / "model", *flat,
        "--percentile", 50, *arguments,
    )  # fmt: skip


@pytest.mark.slow
def test_pairs_are_ranked_and_steered_and_the_counts_kept(folder: Path, tmp_path: Path) -> None:
    kept = ("--out", tmp_path / "counts", "--checkpoint", tmp_path / "run")
    told = sweep(folder, "--held-out", 4, *kept)
    assert told.exit_code == 0, told.output
    assert "4 pairs of layers, fitted on 8 triples; 4 were held out" in told.output
    assert "nats a token" not in told.output
    assert max(map(len, told.output.splitlines()[:-1])) <= 80
    pairs = [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert SweepCounts.load(tmp_path / "counts").pairs == pairs
    # From the checkpoint, so that no batch is counted again.
    again = sweep(
        folder, "--held-out", 4, "--margin", 2, "--alpha", 0.5, "--mode", "both", "--json", *kept
    )
    assert again.exit_code == 0, again.output
    rows = json.loads(again.stdout)
    assert sorted((row["input_layer"], row["output_layer"]) for row in rows) == pairs
    assert all(row["ranking"]["n"] == 4 for row in rows)
    means = [row["effect"]["margin"]["mean"] for row in rows]
    assert means == sorted(means, reverse=True)
    assert {row["effect"]["chosen"]["n"] for row in rows} == {2}
    shown = sweep(folder, "--held-out", 4, "--margin", 2, *kept).output
    assert "change of log p under steering, nats a token, on 2 of these" in shown
    wide = [line for line in shown.splitlines() if len(line) > 80]
    assert all("/" in line or "the margin" in line for line in wide), wide


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--held-out", 12), "12 triples are to be held out of 12; leave at least one to fit on"),
        (("--percentile", 101), "Invalid value for '--percentile'"),
        (("--input-sae", "0=elsewhere"), "--input-sae came twice for layer 0; give one a layer"),
    ],
)
def test_what_is_out_of_range_is_refused(
    folder: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    told = sweep(folder, *arguments)
    assert told.exit_code != 0
    assert sentence in told.output


def test_a_model_of_ones_own_comes_with_its_saes(folder: Path) -> None:
    told = dspa("sweep", folder / "triples.jsonl", "--model", folder / "model")
    assert told.exit_code == 1
    assert "dspa: --input-sae must be given with --model, since SAEs and layers of" in told.output
