"""A reproduction from end to end on tiny random models: stand-ins, and the way of a real run."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from dspa_nn.errors import EvaluationError
from dspa_nn.judges import Endpoint, Judge
from dspa_nn.models import PRESETS, get_preset
from dspa_nn.reproduce import (
    FIGURES,
    Judges,
    Settings,
    Sources,
    published,
    reproduce,
    stand_in_dspa,
)
from dspa_nn.reproduce import measures as measuring
from dspa_nn.reproduce.judge_stub import judge_stub
from dspa_nn.reproduce.stand_in import stand_in_sources
from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def whole_files(folder: Path) -> None:
    """No file is a part of one: temporary ones are hidden, and JSON is read."""
    for path in folder.rglob("*"):
        assert not path.name.endswith(".tmp"), path
        if path.suffix == ".json":
            json.loads(path.read_text())


def ours(done: Any) -> dict[str, dict[str, Any]]:
    return {
        row["slug"]: {name: figure["ours"] for name, figure in row["figures"].items()}
        for row in done.figures["rows"]
    }


def test_a_stand_in_goes_all_the_way_and_again_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("peft", "lm_eval", "alpaca_eval", "openai"):
        pytest.importorskip(package)
    done = reproduce("gemma-2-2b", tmp_path, stand_in=True, progress=False)
    assert set(ours(done)) == {row.slug for row in published("gemma-2-2b")}
    assert done.measured == 10 * len(FIGURES)
    for figures in ours(done).values():
        for interval in figures.values():
            assert interval["low"] <= interval["mean"] <= interval["high"]
    page = done.page.read_text()
    assert "no figure here means anything" in page
    assert "paper 4.39" in page
    assert json.loads(done.json.read_text()) == json.loads(json.dumps(done.figures))
    assert done.figures["judges"] == {"mt_bench": "stub", "alpaca_eval": "stub"}
    rated = (tmp_path / "mt-bench" / "model_judgment" / "stub_single.jsonl").read_text()
    assert len(rated.splitlines()) == 10 * 4
    said = [
        (tmp_path / "mt-bench" / "model_answer" / f"main-{name}.jsonl").read_text()
        for name in ("base", "dspa", "static-sae", "prompt-eng")
    ]
    turns = {
        tuple(json.loads(line)["choices"][0]["turns"][0] for line in text.splitlines())
        for text in said
    }
    assert len(turns) > 2  # rows are steered, each in its way
    whole_files(tmp_path)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    for name in ("answer_mt_bench", "rate_mt_bench", "rate_alpaca_eval", "measure_choices"):
        monkeypatch.setattr(measuring, name, never)
    again = reproduce("gemma-2-2b", tmp_path, stand_in=True, progress=False)
    assert ours(again) == ours(done)
    with pytest.raises(EvaluationError, match=r"holds a run of gemma-2-2b with another preset"):
        reproduce("qwen3-8b", tmp_path, stand_in=True, progress=False)


def test_answers_of_other_weights_are_not_taken_for_a_trained_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("openai")
    caplog.set_level(logging.INFO)
    run: Any = {"rows": ["main-dpo"], "steps": ["mt-bench"], "stand_in": True, "progress": False}
    said = tmp_path / "mt-bench" / "model_answer"
    first = reproduce("gemma-2-2b", tmp_path, **run)
    (before,) = said.iterdir()
    kept = before.read_text()
    weights = tmp_path / "stand-in" / "main-dpo" / "adapter_model.safetensors"
    save_file({name: -3 * value for name, value in load_file(weights).items()}, weights)
    second = reproduce("gemma-2-2b", tmp_path, **run)
    (after,) = set(said.iterdir()) - {before}
    assert before.read_text() == kept
    turns = [[json.loads(line)["choices"] for line in path.read_text().splitlines()]
             for path in (before, after)]  # fmt: skip
    assert turns[0] != turns[1]
    assert [ours(done)["main-dpo"]["mt_bench"]["n"] for done in (first, second)] == [2, 2]
    assert not [record for record in caplog.records if "HTTP Request" in record.getMessage()]


@pytest.mark.parametrize("name", ["gemma-2-9b", "qwen3-8b"])
def test_the_other_models_stand_ins_have_their_architecture_and_sae_type(
    name: str, tmp_path: Path
) -> None:
    dspa, preset = stand_in_dspa(get_preset(name)), PRESETS[name]
    assert type(dspa.model._module.config).__name__ == f"{preset.architecture.family}Config"
    assert dspa.output_sae.encoder.rule["architecture"] == preset.sae_type
    assert dspa.render([{"role": "user", "content": "Hi"}]).text.endswith("\n\nAssistant:")
    done = reproduce(
        name, tmp_path, rows=["main-dspa", "main-base"], steps=["maps", "mt-bench"],
        stand_in=True, progress=False,
    )  # fmt: skip
    assert [figures["mt_bench"]["n"] for figures in ours(done).values()] == [2, 2]


@pytest.fixture
def local(tmp_path: Path) -> Sources:
    """A tiny model as deep as Gemma-2-2B on disk, SAEs at its layers, and inputs in files."""
    import warnings

    preset = get_preset("gemma-2-2b")
    hf, tok = tiny.model("gemma2", num_hidden_layers=26, layer_types=None), tiny.tokenizer("add")
    hf.save_pretrained(tmp_path / "sft")
    tok.save_pretrained(tmp_path / "sft")
    saes = tiny.saes(hf, "jumprelu", layer_in=7, layer_out=24)
    for sae, name in zip(saes, ("early", "late"), strict=True):
        sae.cfg.metadata.model_name = "gemma-2-2b"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sae.save_model(tmp_path / name)
    own = stand_in_sources(tmp_path / "inputs", preset)
    return Sources(
        triples=own.triples, mt_bench=own.mt_bench, alpaca_eval=own.alpaca_eval,
        choices=own.choices, model=str(tmp_path / "sft"), input_sae=str(tmp_path / "early"),
        output_sae=str(tmp_path / "late"),
    )  # fmt: skip


def test_a_real_run_on_files_answers_first_and_is_rated_later(
    local: Sources, tmp_path: Path
) -> None:
    settings = Settings(percentile=50, few=6, max_new_tokens=4, triples=12, questions=1)
    run: Any = {
        "rows": ["main-dspa", "main-base", "n250-dpo"], "steps": ["maps", "mt-bench"],
        "settings": settings, "sources": local, "progress": False,
    }  # fmt: skip
    done = reproduce("gemma-2-2b", tmp_path / "out", **run)
    assert done.measured == 0
    notes = " ".join(done.figures["notes"])
    assert "n250-dpo needs training" in notes
    assert f"--model {local.model}" in notes
    assert "mt-bench: answers alone" in notes
    assert len((tmp_path / "out" / "data" / "n250.jsonl").read_text().splitlines()) == 6
    assert done.figures["origin"]["model_id"] == "google/gemma-2-2b"
    with judge_stub() as url:
        judge = Judge(Endpoint(url, "stub"))
        rated = reproduce("gemma-2-2b", tmp_path / "out", judges=Judges(judge), **run)
    assert rated.measured == 2
    with pytest.raises(EvaluationError, match="with another settings; give another folder"):
        reproduce("gemma-2-2b", tmp_path / "out", **run | {"settings": Settings()})
