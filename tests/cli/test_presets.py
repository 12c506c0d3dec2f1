"""`dspa presets`: the table, and the same as JSON."""

import json

import pytest
from typer.testing import CliRunner

from dspa_nn.cli.app import app
from dspa_nn.models import PRESETS


def test_every_preset_has_a_line_in_both_tables_of_80_columns() -> None:
    done = CliRunner().invoke(app, ["presets"])
    assert done.exit_code == 0, done.output
    about, needs = (table.splitlines() for table in done.output.split("\n\n"))
    for table in (about, needs):
        assert [line.split()[0] for line in table] == ["preset", *PRESETS]
        assert max(map(len, table)) <= 80
    for preset, line in zip(PRESETS.values(), about[1:], strict=True):
        assert line.split()[1] == preset.model_id


def test_json_holds_the_settings_and_the_needs() -> None:
    done = CliRunner().invoke(app, ["presets", "qwen3-8b", "--json"])
    told = json.loads(done.output)
    assert list(told) == ["qwen3-8b"]
    assert told["qwen3-8b"]["template"] == "human-assistant"
    assert told["qwen3-8b"]["needs"]["parameters"] == 8_190_735_360
    # 36 layers of 8 heads of 128 numbers, keys and values, two bytes each.
    assert told["qwen3-8b"]["needs"]["cache"] == 36 * 8 * 128 * 2 * 2


def test_an_unknown_one_is_one_sentence() -> None:
    done = CliRunner().invoke(app, ["presets", "gemma-3"])
    assert done.exit_code == 1
    assert "there is no preset 'gemma-3'" in done.output


@pytest.mark.parametrize("name", ["gemma-2-2b", "gemma-2-9b", "qwen3-8b"])
def test_both_encoders_and_one_decoder_are_beside_the_model(name: str) -> None:
    done = CliRunner().invoke(app, ["presets", name, "--json"])
    needs, preset = json.loads(done.output)[name]["needs"], PRESETS[name]
    hidden = preset.architecture.hidden_size
    assert needs["saes"] == 3 * 4 * hidden * preset.d_in
    assert needs["weights"] == 2 * needs["parameters"]
    assert needs["memory"] > needs["weights"] + needs["saes"]
