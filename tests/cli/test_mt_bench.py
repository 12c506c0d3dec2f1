"""`dspa mt-bench`: from a question set to scores, with a judge on loopback."""

import json
from pathlib import Path

import pytest

from dspa_nn.cli.judged import judge_of
from tests.cli.test_cli import dspa, source, tiny_preset  # noqa: F401
from tests.judges.server import Behaviour, judge_stub
from tests.mt_bench import bench


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.filterwarnings("ignore::dspa_nn.errors.DSPAWarning")
def test_questions_are_answered_judged_and_scored(source: Path, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("openai")
    data, out = bench.folder(tmp_path / "data"), tmp_path / "out"
    assert dspa("fit", source, "--out", tmp_path / "map", "--percentile", 50).exit_code == 0
    run = ("mt-bench", data, "--out", out, "--max-new-tokens", 3)
    plain = dspa(*run, "--name", "plain")
    assert plain.exit_code == 0, plain.output
    assert "not judged" in plain.output
    with judge_stub(lambda number, body: Behaviour("Rating: [[3]]")) as stub:
        judge = ("--judge-url", stub.url, "--judge-model", "stub")
        steered = dspa(*run, "--name", "m", "--map", tmp_path / "map", "--alpha", 1, *judge)
        mapped = ("--name", "m", "--map", tmp_path / "map")
        again = dspa(*run, *mapped, "--alpha", 1, *judge, "--json")
        other = dspa(*run, *mapped, "--alpha", 2, *judge)
        unsteered = dspa(*run, "--name", "m", *judge)
    assert steered.exit_code == 0, steered.output
    assert "stub as the judge: 6 requests (60 tokens in, 12 out), 0 replies from disk" in (
        steered.output
    )
    assert len(stub.requests) == 6
    assert other.exit_code == unsteered.exit_code == 1
    assert "were made with another settings" in other.output
    assert "were made with another map; give the same options again, or another --name" in (
        " ".join(unsteered.output.split())
    )
    rows = [{**bench.QUESTIONS[0], "turns": ["Describe a hill.", "Shorter."]}, *bench.QUESTIONS[1:]]
    bench.folder(data, questions=rows)
    changed = dspa(*run, *mapped, "--alpha", 1)
    assert changed.exit_code == 1
    assert "were made with another question set; give the same options" in (
        " ".join(changed.output.split())
    )
    (out / "m.run.json").write_text("{")
    torn = dspa(*run, *mapped, "--alpha", 1)
    assert torn.exit_code == 1
    assert "m.run.json cannot be read, which says what the answers of 'm' were made with" in (
        " ".join(torn.output.split())
    )
    scores = json.loads(again.stdout)
    assert scores["m"]["mean"] == 3
    assert scores["m"]["math"] == 3


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("name", ["../m", "a/b", "", " ", "."])
def test_a_name_that_is_no_name_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    data, out = bench.folder(tmp_path / "data"), tmp_path / "out"
    told = dspa("mt-bench", data, "--out", out, "--name", name, "--limit", 1)
    assert told.exit_code == 1
    assert f"--name is {name!r}; give a word or two" in told.output
    assert not out.exists()


def test_a_name_that_is_too_long_for_a_file_is_refused_before_a_model_is_loaded(
    tmp_path: Path,
) -> None:
    long = "é" * 101
    judge = ["--name", "m", "--judge-url", "http://h/v1", "--judge-model", long]
    for option, given in (("--name", ["--name", long]), ("--judge-model", judge)):
        told = dspa("mt-bench", tmp_path, "--out", tmp_path, *given)
        assert told.exit_code == 1
        assert f"{option} has 202 bytes; files are named after it" in told.output


def test_a_slow_judge_is_waited_for_as_long_as_is_said(tmp_path: Path) -> None:
    judge = judge_of("http://127.0.0.1:9/v1", "stub", "JUDGE_KEY", tmp_path, 900.0)
    assert judge is not None
    assert judge.endpoint.timeout == 900
    for command in ("mt-bench", "alpaca-eval"):
        assert dspa(command, tmp_path, "--judge-timeout", 0).exit_code == 2


def test_a_judge_without_a_name_is_refused(tmp_path: Path) -> None:
    told = dspa(
        "mt-bench", tmp_path, "--out", tmp_path, "--name", "m", "--judge-url", "http://h/v1"
    )
    assert told.exit_code == 1
    assert "--judge-url came without --judge-model; name the judge" in told.output
