"""A preset is one record: sizes, layers, SAEs and settings together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dspa_nn.costs import preset_costs
from dspa_nn.errors import DSPAError
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.models import PRESETS, TunedSettings, get_preset, preset_of


def test_every_record_is_found_by_its_name_and_has_its_sizes() -> None:
    for name, preset in PRESETS.items():
        assert get_preset(name) is preset
        assert preset.name == name
        config = preset.config
        assert type(config).__name__ == f"{preset.architecture.family}Config"
        assert config.num_hidden_layers > preset.output_layer > preset.input_layer
        assert config.hidden_size == preset.architecture.hidden_size


def test_the_embedded_saes_are_as_wide_as_the_record_says() -> None:
    preset = get_preset("smollm2-135m-instruct")
    for folder, width in ((preset.input_sae, preset.d_in), (preset.output_sae, preset.d_out)):
        assert json.loads((Path(folder) / "cfg.json").read_text())["d_sae"] == width


def test_a_preset_more_is_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = replace(get_preset("smollm2-135m-instruct"), name="wider", model_id="a/b", d_out=8192)
    monkeypatch.setitem(PRESETS, "wider", wider)
    origin = {"model_id": "a/b", "input_layer": 9, "output_layer": 24}
    assert preset_of(origin) is wider
    assert wider.settings()["defaults"]["percentile"] == 50


@pytest.mark.slow  # counts RAHF-SCIT on both
def test_what_a_preset_costs_follows_from_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = replace(get_preset("smollm2-135m-instruct"), name="wider", model_id="a/b", d_out=8192)
    monkeypatch.setitem(PRESETS, "wider", wider)
    mine, theirs = (preset_costs(name).rows[0].flops for name in ("wider", "smollm2-135m-instruct"))
    assert mine > theirs


def test_tuned_settings_are_settings() -> None:
    known = {*DEFAULTS, "percentile", "prompt_tokens"}
    assert set(TunedSettings.__annotations__) <= known
    for preset in PRESETS.values():
        assert set(preset.defaults) <= set(TunedSettings.__annotations__)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(DSPAError, match=r"^there is no preset 'gema-2-2b' \(did you mean 'gemma-2"):
        get_preset("gema-2-2b")
    with pytest.raises(DSPAError, match=r"^there is no preset 'gpt-9'; the presets are smollm2-"):
        get_preset("gpt-9")
