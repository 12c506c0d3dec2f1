"""`dspa reproduce`: says what it needs, refuses in a sentence, and goes on where it was stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dspa_nn.cli.app import app
from dspa_nn.reproduce import reproduce
from tests.sae_zoo import assert_one_sentence

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RATE = "dspa_nn.reproduce.measures.rate_mt_bench"


def test_what_was_stopped_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: Any = {
        "rows": ["main-dspa", "main-base"], "steps": ["maps", "mt-bench"], "stand_in": True,
        "progress": False,
    }  # fmt: skip
    whole = reproduce("qwen3-8b", tmp_path / "whole", **wanted)
    rate, calls = pytest.importorskip("dspa_nn.reproduce.measures").rate_mt_bench, []

    def stopped(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rate(*given)

    monkeypatch.setattr(RATE, stopped)
    command = ["reproduce", "qwen3-8b", "--stand-in", "--out", str(tmp_path / "cut")]
    for option, values in (("--row", wanted["rows"]), ("--step", wanted["steps"])):
        command += [part for value in values for part in (option, value)]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 130
    assert "stopped: what is finished is in" in first.output
    for path in (tmp_path / "cut").rglob("*"):
        assert not path.name.endswith(".tmp"), path
        if path.suffix == ".json":
            json.loads(path.read_text())
    second = CliRunner().invoke(app, command)
    assert second.exit_code == 0, second.output
    assert "2 figures beside the published ones" in second.output
    assert len(calls) == 3  # the first row was not rated again
    cut = json.loads((tmp_path / "cut" / "report.json").read_text())
    assert cut["rows"] == whole.figures["rows"]


def test_the_command_says_what_it_needs_and_asks() -> None:
    told = CliRunner().invoke(app, ["reproduce", "gemma-2-9b", "--plan"])
    assert told.exit_code == 0, told.output
    assert "GPU memory  25 GB" in told.output
    asked = CliRunner().invoke(app, ["reproduce", "gemma-2-9b", "--plan", "--json"])
    assert json.loads(asked.output)["calls"] == {"MT-Bench": 1600, "AlpacaEval": 8050}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "nobody can be asked whether to start"),
        (["--row", "main-dpa"], "did you mean 'main-dspa'"),
        (["--step", "map"], "did you mean 'maps'"),
        (["--stand-in", "--triples", "mine.jsonl"], "--stand-in came with inputs"),
        (["--yes", "--judge-url", "http://127.0.0.1:1/v1"], "came without --judge-model"),
        (["--yes", "--trained", "main-dpo"], "--trained is 'main-dpo'; expected a row and a"),
        (["--yes"], "does not say which commit of google/gemma-2-9b is the newest"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["reproduce", "gemma-2-9b", *options])
    assert done.exit_code == 1, done.output
    last = done.output.strip().splitlines()[-1]
    assert text in last
    assert_one_sentence(last.removeprefix("dspa: "))
