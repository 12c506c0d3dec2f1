"""The script of costs, and the page that shows its tables."""

import json
import sys

import pytest

from benchmarks import costs
from benchmarks._report import markdown
from dspa_nn.costs import preset_costs
from dspa_nn.models import PRESETS
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "appendix" / "costs.md"


@pytest.mark.slow
def test_the_page_shows_what_is_counted():
    page = PAGE.read_text()
    tables = {name: preset_costs(name, [costs.PAPER]) for name in PRESETS}
    for rows in (
        costs.formula_over_count(tables),
        costs.side_by_side(tables),
        costs.from_account_to_count(tables[costs.SIZED]),
    ):
        assert markdown(rows) in page


@pytest.mark.slow
def test_without_data_the_script_reports_what_needs_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DSPA_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr(sys, "argv", ["costs", "--quick", "--out", str(tmp_path)])
    costs.main()
    kept = json.loads((tmp_path / "costs.json").read_text())
    assert "Real lengths" not in kept["rows"]
    assert any("no table of real lengths" in note for note in kept["notes"])
    (sizing,) = [rows for heading, rows in kept["rows"].items() if "Sizing" in heading]
    assert sizing[0]["hours on 8"] == pytest.approx(sizing[0]["GPU hours"] / 8)
    assert [row["model"] for row in kept["rows"]["RAHF-SCIT by the paper's formula"]] == [
        "gemma-2-9b",
        "qwen3-8b",
    ]


@pytest.mark.data
@pytest.mark.slow
def test_lengths_and_bytes_are_measured(data):
    lengths, found = costs.measured(data / "ultrafeedback" / "triples.jsonl", 6, 2)
    assert len(lengths) == 6
    assert all(min(triple) > 0 for triple in lengths)
    # Every entry is a column and a count, 4 bytes each; the rest is what a table holds besides.
    assert 8 * found["entries per triple"] < found["bytes per triple"]
    assert found["bytes per triple"] < 8 * found["entries per triple"] + 4096
