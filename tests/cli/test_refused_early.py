"""Bad command lines: one sentence each, before a model is loaded."""

import json
from pathlib import Path

import pytest

from dspa_nn import DSPA
from tests import steer_zoo, tiny
from tests.cli.test_cli import dspa


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad")
    steer_zoo.lab("llama", "add").map.save(path / "m")
    rows = [json.dumps(row) for row in tiny.triples(12)]
    (path / "t.jsonl").write_text("\n".join(rows))
    (path / "cut.jsonl").write_text(rows[0][:40])
    (path / "ref.json").write_text(json.dumps([{"instruction": "a", "output": "b"}]))
    (path / "file").write_text("")
    return path


EVALUATE = "evaluate m --triples t.jsonl --out o"
TUNE = "tune t.jsonl --out o"
ALPACA = "alpaca-eval ref.json --out o --name x"
NO_SAE = "the SAE 'no' is neither an existing folder nor 'release/sae_id' of a release"
LINES = {
    f"{EVALUATE} --triples none.jsonl": "there is no file none.jsonl",
    f"{EVALUATE} --dev none.jsonl": "there is no file none.jsonl",
    f"{EVALUATE} --fitted-on cut.jsonl": "cut.jsonl, line 1: not JSON",
    f"{EVALUATE} --paraphrases none": "there is no file none; check --paraphrases",
    f"{EVALUATE} --multiple-choice cut.jsonl": "cut.jsonl, line 1 is no JSON",
    f"{EVALUATE} --alpha 1e7": "alpha is 10000000.0, and must be a number of at most 1,000,000",
    f"{TUNE} --dev t.jsonl": "12 of 12 development triples are fitting triples too",
    f"{TUNE} --kl nan": "the limits are nan nats of KL",
    f"{TUNE} --perplexity 0.5": "the limits are 0.15 nats of KL and a perplexity ratio of 0.5",
    f"{TUNE} --alpha 0.1,1e9": "alpha is 1000000000.0, and must be a number of at most 1,000,000",
    "audit m --triples none.jsonl": "there is no file none.jsonl",
    "audit m --causal cut.jsonl": "cut.jsonl, line 1: not JSON",
    "audit m --checkpoint c": "--checkpoint came without --causal, whose parts it keeps",
    f"{ALPACA} --name a/b": "--name is 'a/b'; give a word or two",
    f"{ALPACA} --alpha 0.5 --mode both": "--alpha and --mode came without --map",
    f"{ALPACA} --map none": "none holds no map.json",
    f"{ALPACA} --out file": "--out is file, which is a file",
    "mt-bench . --out o --name x --alpha 1": "--alpha came without --map, and so nothing would be",
    "chat m --temperature 1e-30": "temperature is 1e-30; expected 0, which takes the likeliest",
    "chat m --resume none": "there is no folder none; give one that /save wrote to --resume",
    "lm-eval": "nothing came for lm-evaluation-harness; write what it takes after --",
    "payload --payload-dtype bfloat16": "--payload-dtype came without a map, where it has no mean",
    "payload m --columns 3": "--columns came with a map, where it has no meaning; leave it out",
    "fit t.jsonl --out o --model x --input-sae no --output-sae no": NO_SAE,
    "sweep t.jsonl --input-sae 9=no": NO_SAE,
    "steer m hi --alpha inf": "alpha is inf, and must be a finite number of at least 0",
}


def test_help_says_whose_value_a_setting_has_where_it_is_left_out() -> None:
    words = " ".join(dspa("steer", "--help").output.split())
    for name, default in (("alpha", "0.2"), ("prompt-rule", "density")):
        told = words.partition(f"--{name} ")[2].partition("[default: ")[2]
        assert told.startswith(f"(the map's, else the preset's, else {default})")
    words = " ".join(dspa("fit", "--help").output.split())
    assert "[default: (the preset's, else 90)" in words
    assert "[default: (in a run the map's, else the preset's, else 16)" in words


def _loaded(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")


@pytest.fixture
def nothing_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for loads in ("load_model", "load_named"):
        monkeypatch.setattr(f"dspa_nn.cli.build.{loads}", _loaded)
    monkeypatch.setattr(DSPA, "from_preset", _loaded)


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("line", LINES)
def test_it_is_refused_in_one_sentence(line: str) -> None:
    result = dspa(*line.split())
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"dspa: {LINES[line]}")
    assert len(result.stderr.splitlines()) == 1
    assert not Path("o").exists()


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    "line",
    [
        f"{EVALUATE} --temperature nan",
        f"{EVALUATE} --seed -1",
        f"{TUNE} --seed -1",
        "demo --seed -1",
    ],
)
def test_what_is_out_of_range_is_an_option_that_cannot_be_read(line: str) -> None:
    result = dspa(*line.split())
    assert result.exit_code == 2
    assert "should be greater than or equal to" in result.stderr
