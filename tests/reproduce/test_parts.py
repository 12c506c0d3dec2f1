"""What a reproduction is made of: published tables, pins, the record of a run, needs, the judge."""

import csv
import io
import json
import urllib.request
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.errors import EvaluationError
from dspa_nn.models import get_preset
from dspa_nn.reproduce import (
    FIGURES,
    STEPS,
    Row,
    Settings,
    Sources,
    published,
    reproduce,
    reproduction_needs,
    rows_of,
    shortfalls,
    steps_of,
)
from dspa_nn.reproduce.claims import claims
from dspa_nn.reproduce.fits import training_commands
from dspa_nn.reproduce.judge_stub import judge_stub, reply_to
from dspa_nn.reproduce.measures import around
from dspa_nn.reproduce.pins import MT_BENCH, Pin, Remote, download, pins_of, resolve
from dspa_nn.reproduce.record import Record
from dspa_nn.reproduce.report import as_csv
from dspa_nn.reproduce.settings import FITTED
from tests.sae_zoo import assert_one_sentence

MODELS = ("gemma-2-2b", "gemma-2-9b", "qwen3-8b")


def test_the_published_tables_are_those_of_the_paper() -> None:
    # docs/method.md 7: what DSPA gains over its base on MT-Bench and on AlpacaEval.
    gains = {"gemma-2-2b": (0.48, 1.76), "gemma-2-9b": (0.63, -1.12), "qwen3-8b": (0.74, 4.36)}
    for name in MODELS:
        known = published(name)
        dspa, base = known[Row("main", "DSPA")], known[Row("main", "Base")]
        gained = [dspa[figure] - base[figure] for figure in ("mt_bench", "alpaca_eval")]
        assert gained == pytest.approx(gains[name])
        assert all(set(figures) == set(FIGURES) for figures in known.values())
        assert len(known) == 10


def test_every_row_is_fitted_or_trained() -> None:
    for name in MODELS:
        for row in published(name):
            assert (row.method in FITTED) != (row.method in ("DPO", "RAHF-SCIT"))


def test_rows_and_steps_by_name() -> None:
    rows = rows_of("qwen3-8b", ("main-prompt-eng", "main-dspa"))
    assert rows == [Row("main", "DSPA"), Row("main", "Prompt Eng")]
    assert steps_of() == STEPS
    for call, text in (
        (lambda: rows_of("gemma-2-2b", ("main-dpa",)), r"main-dpa.*did you mean 'main-dspa'"),
        (lambda: rows_of("smollm2-135m-instruct"), r"reports nothing of 'smollm2-135m-instruct'"),
        (lambda: steps_of(("map",)), r"map.*did you mean 'maps'"),
        (lambda: Settings(percentile=101), r"^percentile is 101; give a number from 0 to 100"),
        (lambda: Settings(few=0), r"^few is 0"),
        (lambda: Settings(triples=100), r"^100 triples are to be read, and 250 of them to be"),
    ):
        with pytest.raises(EvaluationError, match=text) as error:
            call()
        assert_one_sentence(str(error.value))


def test_a_pin_comes_first_then_what_the_run_has_noted_then_the_hub() -> None:
    asked: list[tuple[str, str]] = []

    def newest(repository: str, kind: str) -> str:
        asked.append((repository, kind))
        return "new"

    pins = [Pin("a", "x/pinned", "model", "fixed"), Pin("b", "x/known", "model")]
    pins.append(Pin("c", "x/open", "dataset"))
    commits = resolve(pins, {"x/known": "noted", "x/pinned": "other"}, newest)
    assert commits == {"x/pinned": "fixed", "x/known": "noted", "x/open": "new"}
    assert asked == [("x/open", "dataset")]


def test_what_is_named_is_not_asked_of_the_hub() -> None:
    qwen = get_preset("qwen3-8b")
    whole = [pin.repository for pin in pins_of(qwen, Sources(), STEPS)]
    assert whole[:3] == [
        "Qwen/Qwen3-8B",
        "adamkarvonen/qwen3-8b-saes",
        "argilla/ultrafeedback-binarized-preferences-cleaned",
    ]
    assert len(whole) == 8
    own = Sources(model="sft", triples="mine.jsonl", input_sae=qwen.input_sae)
    assert [pin.what for pin in pins_of(qwen, own, ["maps"])] == ["SAEs"]


def test_without_the_hub_a_commit_is_not_guessed() -> None:
    with pytest.raises(EvaluationError, match=r"does not say which commit of a/b is .*--stand-in"):
        resolve([Pin("model", "a/b", "model")], {})


def test_files_of_the_web_are_held_against_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, asked = b"questions", []

    def urlopen(url: str, timeout: float) -> Any:
        asked.append(url)
        return io.BytesIO(body)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    file = Remote("deep/q.jsonl", "https://example.org/q", sha256(body).hexdigest())
    for _ in range(2):
        download([file], tmp_path)
    assert asked == ["https://example.org/q"]
    (tmp_path / "deep" / "q.jsonl").write_bytes(b"other")
    with pytest.raises(EvaluationError, match=r"has the hash .* was pinned: remove it"):
        download([file], tmp_path)


@pytest.mark.data
def test_the_pinned_hashes_are_those_of_the_files(data: Path) -> None:
    there = {
        "question.jsonl": "question.jsonl",
        "judge_prompts.jsonl": "judge_prompts.jsonl",
        "reference_answer/gpt-4.jsonl": "reference_answer_gpt-4.jsonl",
    }
    for file in MT_BENCH:
        body = (data / "mt_bench" / there[file.name]).read_bytes()
        assert sha256(body).hexdigest() == file.sha256


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    Record(tmp_path).agree({"preset": "gemma-2-2b", "few": (1, 2)}, "its options")
    Record(tmp_path).agree({"preset": "gemma-2-2b", "few": [1, 2], "new": 1}, "its options")
    with pytest.raises(EvaluationError, match=r"holds a run of gemma-2-2b with another preset; "):
        Record(tmp_path).agree({"preset": "qwen3-8b"}, "its options")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(EvaluationError, match="is damaged or of another version"):
        Record(tmp_path)


def test_needs_are_told_with_what_they_assume() -> None:
    rows = rows_of("gemma-2-2b")
    needs = reproduction_needs("gemma-2-2b", rows, STEPS)
    assert needs.calls == {"MT-Bench": 160 * len(rows), "AlpacaEval": 805 * len(rows)}
    assert needs.dollars["MT-Bench"] == pytest.approx(len(rows) * 160 * (2.5 * 800 + 2000) / 1e6)
    assert set(needs.hours) == {"counting", "RepE", "MT-Bench", "AlpacaEval", "multiple choice"}
    text = str(needs)
    for part in ("GPU memory  7 GB", "judge calls MT-Bench 1,600", "61,000 triples", "ask yours"):
        assert part in text
    few = Settings(triples=61, few=50, questions=2)
    trial = reproduction_needs("gemma-2-2b", rows[:1], STEPS, few)
    assert sum(trial.hours.values()) < sum(needs.hours.values()) / 100
    assert trial.calls == {"MT-Bench": 4, "AlpacaEval": 2}
    assert shortfalls(needs, 80 * 10**9, 10**13) == []
    assert [line[:20] for line in shortfalls(needs, 10**9, 10**9)] == [
        "the GPU has 1 GB of ",
        "1 GB of disk are fre",
    ]


def test_the_stub_rates_and_ranks_the_same_every_time() -> None:
    rated = {reply_to(f"Question {number}") for number in range(40)}
    assert len(rated) > 5
    assert reply_to("model_1 or model_2?") == reply_to("model_1 or model_2?")
    with judge_stub() as url:
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
        request = urllib.request.Request(f"{url}/chat/completions", body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = json.loads(answer.read())
    assert said["choices"][0]["message"]["content"] == reply_to("hello")


def test_claims_are_paired_by_question() -> None:
    figure = around(50.0, 1.0, 100)
    results = {
        "main-dspa": {"by_question": {"1": 6.0, "2": 7.0, "3": 9.0}, "mmlu": figure},
        "main-base": {"by_question": {"2": 5.0, "3": 6.0}, "mmlu": figure | {"mean": 51.0}},
    }
    above, static, few, kept = claims(results)
    assert (above.holds, above.figures) == (True, "difference +2.500 [+2.000, +3.000], 2 questions")
    assert (static.holds, few.holds, static.figures) == (None, None, "not measured")
    assert (kept.holds, kept.figures) == (None, "mmlu -1.0 [-3.8, +1.8]")


@pytest.mark.parametrize(
    ("mean", "error", "holds"),
    [(50.1, 0.1, True), (51.8, 0.05, True), (49.0, 0.05, False), (49.3, 0.1, None)],
)
def test_a_figure_is_kept_where_its_whole_interval_says_that_it_does_not_fall(
    mean: float, error: float, holds: bool | None
) -> None:
    results = {
        "main-dspa": {"mmlu": around(mean, error, 900), "arc_easy": around(70.0, 0.1, 900)},
        "main-base": {"mmlu": around(50.0, error, 900), "arc_easy": around(70.0, 0.1, 900)},
    }
    assert claims(results)[3].holds is holds


def test_figures_as_csv() -> None:
    figures = {"mmlu": {"ours": around(50.0, 1.0, 100), "published": 48.1}}
    figures["winogrande"] = {"ours": None, "published": 65.0}
    text = as_csv([{"table": "main", "method": "DSPA", "figures": figures}])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["ours"] for row in rows] == ["50.0", ""]
    assert rows[0]["published"] == "48.1"


def test_what_needs_training_is_told_with_its_commands() -> None:
    (dpo,) = training_commands(Row("main", "DPO"), "out", "m")
    assert dpo == "python recipes/train_dpo.py out/data/main.jsonl --model m --out main-dpo"
    one, two = training_commands(Row("n250", "RAHF-SCIT"), "out", "m")
    assert "--step 1 --model m --out n250-rahf-scit-1" in one
    assert "--step 2 --model n250-rahf-scit-1 --out n250-rahf-scit" in two


def test_sources_and_a_stand_in_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^sources came with stand_in=True"):
        reproduce("gemma-2-2b", tmp_path / "out", sources=Sources(), stand_in=True)
