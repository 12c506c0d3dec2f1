"""`dspa alpaca-eval`: answers, and a win rate with a judge on loopback."""

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import dspa, tiny_preset  # noqa: F401
from tests.harness.test_alpaca import ASKED, file, prefers_better
from tests.judges.server import judge_stub


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.filterwarnings("ignore")
def test_instructions_are_answered_and_judged(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    rows = [row | {"output": f"worse {row['output']}"} for row in ASKED]
    asked, out = file(tmp_path / "asked.json", rows), tmp_path / "out"
    run = ("alpaca-eval", asked, "--out", out, "--name", "m", "--max-new-tokens", 2, "--limit", 3)
    plain = dspa(*run)
    assert plain.exit_code == 0, plain.output
    assert "not judged" in plain.output
    with judge_stub(prefers_better) as stub:
        judged = dspa(*run, "--judge-url", stub.url, "--judge-model", "stub")
        one = dspa(*run[:-1], 1, "--judge-url", stub.url, "--judge-model", "stub")
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["win_rate"] == pytest.approx(100)
    # Of one answer there is no standard error; JSON has no NaN.
    assert one.exit_code == 0, one.output
    assert json.loads(one.stdout, parse_constant=pytest.fail)["standard_error"] is None
    assert json.loads(one.stdout)["n_total"] == 1
    assert dspa(*run, "--judge-url", "http://h/v1").exit_code == 1
