"""Models whose weights are not here: run on NDIF, and never loaded by accident."""

from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn import SteeringError
from dspa_nn.models import load_named
from tests import tiny


@pytest.fixture
def without_weights(tmp_path: Path) -> Any:
    """A tiny model that is not loaded, under a hub id; a `DSPA` of it; a prompt and a map."""
    from nnsight.modeling.transformers import TransformersModel

    hf, tok = tiny.model("llama"), tiny.tokenizer("add")
    hf.save_pretrained(tmp_path / "model")
    tok.save_pretrained(tmp_path / "model")

    def build(hub: bool) -> Any:
        model = TransformersModel(
            str(tmp_path / "model"), task="text-generation", tokenizer=tok, dtype="float32"
        )
        if hub:
            object.__setattr__(model, "repo_id", "org/tiny")
        one, other = (
            tiny.random_sae("topk", layer=layer, width=48, scale=2.0, seed=layer)
            for layer in (1, 2)
        )
        return dn.DSPA(model, input_sae=one, output_sae=other, input_layer=1, output_layer=2)

    return build


def test_a_model_without_weights_pads_on_the_left(tmp_path: Path) -> None:
    """As nnsight does with the tokenizer that it loads itself; `generate` takes no other side."""
    tiny.model("llama").save_pretrained(tmp_path)
    tok = tiny.tokenizer("add")
    tok.padding_side = "right"
    tok.save_pretrained(tmp_path)
    assert load_named(str(tmp_path), dispatch=False).tokenizer.padding_side == "left"
    mine = tiny.tokenizer("none")
    assert load_named(str(tmp_path), dispatch=False, tokenizer=mine).tokenizer is mine


def test_a_remote_model_that_is_nowhere_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(dn.DSPAError, match=r"the model org/nowhere could not be loaded \("):
        dn.remote_model("org/nowhere")


REFUSED = (
    r"^org/tiny is not loaded on this machine, and %s came without remote=True; write remote=True "
    r"to run it on NDIF \(http.*\), or build the model with dispatch=True \(or call "
    r"model\.dispatch\(\)\) to load it here$"
)


def test_a_model_for_ndif_is_not_loaded_by_accident(without_weights: Any) -> None:
    dspa = without_weights(hub=True)
    map = dn.ConditionalDifferenceMap.from_dense(
        -torch.ones(dspa.input_sae.width, dspa.output_sae.width), provenance=dspa.provenance()
    )
    own = [dn.PreferenceTriple(prompt="sun", chosen="moon", rejected="sea")]

    def generate() -> None:
        with dspa.model.generate("sun", max_new_tokens=1):
            dspa.apply(map)

    calls = {
        "count": [lambda: dspa.count(own), lambda: dspa.fit(own)],
        "plan": [lambda: dspa.plan(map, "sun")],
        "attach": [lambda: dspa.attach(dspa.model, map)],
        "a block": [generate],
    }
    for name, attempts in calls.items():
        for attempt in attempts:
            with pytest.raises(SteeringError, match=REFUSED % name):
                attempt()
    assert not dspa.model.dispatched
    dspa.model.dispatch()
    generate()
    assert dspa.plan(map, "sun").latents


def test_a_folder_is_loaded_when_it_is_first_run(without_weights: Any) -> None:
    # NDIF knows models by hub id alone, so this one can be meant for this machine only.
    dspa = without_weights(hub=False)
    own = [dn.PreferenceTriple(prompt="sun", chosen="moon", rejected="sea")]
    assert not dspa.model.dispatched
    assert len(dspa.count(own)) == 1
    assert dspa.model.dispatched


def test_a_preset_is_built_without_weights_and_in_another_dtype(embedded: str) -> None:
    dspa = dn.DSPA.from_preset(
        "smollm2-135m-instruct", dispatch=False, payload_dtype="bfloat16", sae_device="cpu"
    )
    assert not dspa.model.dispatched
    assert dspa.input_sae.encoder.dtype is torch.bfloat16
    assert dspa.payload_dtype == "bfloat16"
    assert not hasattr(dn.DSPA, "unloaded")
