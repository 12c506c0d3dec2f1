"""The script that lays out training runs."""

import json
from pathlib import Path

import pytest

from benchmarks import training


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, steps in (("dpo-uf", 20), ("sae-9-work", 12)):
        (tmp_path / name).mkdir()
        lines = [
            {"loss": 1 - step / 100, "seconds": 2.0 + step, "processor_seconds": 1.0,
             "peak_bytes": 3e9} for step in range(steps)
        ]  # fmt: skip
        (tmp_path / name / "loss.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


def test_losses_are_means_of_ten_steps_and_runs_that_are_absent_are_left_out(runs: Path) -> None:
    report = training.tables(runs, None, [])
    first, second = report["Loss"]
    assert first["steps"] == "1-10"
    assert first["DPO, UltraFeedback"] == "0.955"
    assert second["SAE of layer 9, HH-RLHF"] is None  # twelve steps are no second ten
    assert "RAHF-SCIT step 1" not in first
    one = report["Time and memory"][0]
    assert (one["steps"], one["seconds a step"], one["peak memory (GB)"]) == (20, 11.5, 3.0)


def test_what_was_counted_and_measured_is_laid_out(runs: Path) -> None:
    (runs / "flops.json").write_text(
        json.dumps([{"recipe": "SFT", "shapes": {"input_ids": [4, 9]}, "said": 2e12,
                     "counted": 2.1e12, "ratio": 1.05}])
    )  # fmt: skip
    (runs / "margin.json").write_text(
        json.dumps([{"trained": "dpo-uf", "triples": 30, "margin": [0.1, 0.0, 0.2],
                     "chosen": [0.1, 0.0, 0.2], "rejected": [0.0, -0.1, 0.1], "kl": 0.01}])
    )  # fmt: skip
    report = training.tables(runs, runs / "flops.json", [runs / "margin.json"])
    assert report["FLOPs of a step"][0]["batch"] == "4 x 9"
    assert report["FLOPs of a step"][0]["counted / costs"] == "1.0500"
    (row,) = report["Held-out preferences"]
    assert row["trained"] == "DPO, UltraFeedback"
    assert row["margin"] == "+0.1000 [+0.0000, +0.2000]"
