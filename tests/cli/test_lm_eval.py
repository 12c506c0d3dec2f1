"""`dspa lm-eval`: what is handed over to lm-eval."""

from pathlib import Path

import pytest

from dspa_nn.cli import lm_eval
from tests.cli.test_cli import dspa


def test_arguments_after_the_dashes_and_local_tasks_reach_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[list[str]] = []
    made: list[set[str]] = []

    def run(arguments: list[str]) -> None:
        handed.append(arguments)
        made.append({path.name for path in Path(arguments[-1]).iterdir()})

    monkeypatch.setattr(lm_eval, "run_lm_eval", run)
    questions = tmp_path / "arc.jsonl"
    questions.write_text('{"query": "?", "choices": ["a", "b"], "gold": 0}\n')
    told = dspa(
        "lm-eval", "--local", f"arc={questions}", "--", "run", "--model", "dspa", "--tasks", "arc"
    )
    assert told.exit_code == 0, told.output
    assert handed[0][:-1] == ["run", "--model", "dspa", "--tasks", "arc", "--include_path"]
    assert made == [{"dspa_paper.yaml", "arc.yaml"}]
    assert dspa("lm-eval", "--local", "arc", "--", "run").exit_code == 2
