"""The published models' presets, held against what is written down of them elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import DSPA, PreferenceTriple
from dspa_nn.costs import build
from dspa_nn.models import PRESETS, get_preset
from dspa_nn.saes import split_release
from tests import tiny
from tests.saes.test_dictionary_learning import checkpoint

PUBLISHED = ("gemma-2-2b", "gemma-2-9b", "qwen3-8b")
# Parameters as the hub shows them of the repositories' safetensors.
PARAMETERS = {
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "qwen3-8b": 8_190_735_360,
}
# config.json of each repository on the hub: what decides shapes and attention.
CONFIGS: dict[str, dict[str, Any]] = {
    "gemma-2-2b": {
        "num_hidden_layers": 26, "hidden_size": 2304, "intermediate_size": 9216,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "vocab_size": 256000, "sliding_window": 4096, "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True, "model_type": "gemma2",
    },
    "gemma-2-9b": {
        "num_hidden_layers": 42, "hidden_size": 3584, "intermediate_size": 14336,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
        "vocab_size": 256000, "sliding_window": 4096, "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True, "model_type": "gemma2",
    },
    "qwen3-8b": {
        "num_hidden_layers": 36, "hidden_size": 4096, "intermediate_size": 12288,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151936, "attention_bias": False,
        "tie_word_embeddings": False, "model_type": "qwen3",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_config_is_the_published_one_and_has_as_many_parameters(name: str) -> None:
    config = get_preset(name).config
    assert {key: getattr(config, key) for key in CONFIGS[name]} == CONFIGS[name]
    model = build(config, lm_head=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_layers_and_format_are_the_papers(name: str) -> None:
    preset = get_preset(name)
    layers = {"gemma-2-2b": (7, 24), "gemma-2-9b": (9, 39), "qwen3-8b": (9, 18)}[name]
    assert (preset.input_layer, preset.output_layer) == layers
    assert preset.template == "human-assistant"
    assert preset.defaults == {}  # the paper's settings are the package's defaults


@pytest.mark.parametrize("name", ["gemma-2-2b", "gemma-2-9b"])
def test_gemma_scope_is_in_saelens_registry_under_the_presets_names(name: str) -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    preset = get_preset(name)
    for source, layer in (
        (preset.input_sae, preset.input_layer),
        (preset.output_sae, preset.output_layer),
    ):
        release, sae_id = split_release(source)
        listed = get_pretrained_saes_directory()[release]
        assert listed.repo_id == f"google/gemma-scope-{name.removeprefix('gemma-2-')}-pt-res"
        assert listed.model == name
        assert listed.saes_map[sae_id].startswith(f"layer_{layer}/width_16k/average_l0_")
        assert listed.neuronpedia_id[sae_id] == f"{name}/{layer}-gemmascope-res-16k"


def test_the_qwen_saes_are_a_hub_repository_and_no_release_of_saelens() -> None:
    preset = get_preset("qwen3-8b")
    assert split_release(preset.input_sae) == (
        "adamkarvonen/qwen3-8b-saes",
        "saes_Qwen_Qwen3-8B_batch_top_k/resid_post_layer_9/trainer_2",
    )
    assert preset.output_sae.endswith("/resid_post_layer_18/trainer_2")


def stand_ins(name: str, folder: Path) -> tuple[Any, str, str]:
    """A tiny model of the preset's architecture, and two SAEs of its type at layers 1 and 2."""
    family = PRESETS[name].architecture.family.lower()
    hf = tiny.model(family)
    if family != "qwen3":
        for sae, at in zip(tiny.saes(hf, "jumprelu"), ("one", "other"), strict=True):
            sae.save_model(folder / at)
        return hf, str(folder / "one"), str(folder / "other")
    noise = torch.Generator().manual_seed(0)
    saes: list[str] = []
    for layer, width in ((1, tiny.WIDTH_IN), (2, tiny.WIDTH_OUT)):
        weights = {
            "encoder.weight": torch.randn(width, tiny.HIDDEN, generator=noise),
            "encoder.bias": torch.zeros(width),
            "decoder.weight": torch.randn(tiny.HIDDEN, width, generator=noise) / 3,
            "b_dec": torch.zeros(tiny.HIDDEN),
            "threshold": torch.tensor(4.0),
            "k": torch.tensor(6),
        }
        own = {"layer": layer, "activation_dim": tiny.HIDDEN, "dict_size": width}
        saes.append(
            str(checkpoint(folder / f"layer_{layer}", weights, lm_name="tiny-qwen3", **own))
        )
    return hf, saes[0], saes[1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_whole_path_on_a_tiny_model_of_the_same_architecture_and_sae_type(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf, one, other = stand_ins(name, tmp_path)
    model = tiny.nnsight_model(hf, tiny.tokenizer("none" if name == "qwen3-8b" else "add"))
    small: Any = {"input_layer": 1, "output_layer": 2, "input_sae": one, "output_sae": other}
    monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], **small))
    dspa = DSPA.from_preset(name, model=model)
    assert dspa.input_sae.encoder.rule["architecture"] == PRESETS[name].sae_type
    triples = [PreferenceTriple(**row) for row in tiny.triples(12, chat=True)]
    map = dspa.fit(triples, percentile=50, progress=False, cache=False)
    map.save(tmp_path / "map")
    prompt = dspa.render(triples[0].prompt)
    assert prompt.text.endswith("\n\nAssistant:")
    with model.generate(prompt.ids, max_new_tokens=5) as tracer:
        edits = dspa.apply(type(map).load(tmp_path / "map"), prompt=prompt, alpha=1.0)
        ids = tracer.result.save()
    assert len(edits) > 0
    assert ids.shape[1] == len(prompt.ids) + 5
