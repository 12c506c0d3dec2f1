"""A model is more than its name: adapters on, off and merged, and other weights, are told apart."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dspa_nn import (
    DSPA,
    ActivationCounts,
    ConditionalDifferenceMap,
    CountsError,
    MapError,
    SteeringError,
)
from dspa_nn.graph.origin import OF_MAPS, contradicting
from dspa_nn.models import Fingerprint, read_facts
from dspa_nn.provenance import unequal
from tests import steer_zoo, tiny
from tests.counts.test_files_of_before import BEFORE


class Adapted(nn.Module):
    """A linear layer under a low-rank adapter, with the face that PEFT gives one."""

    def __init__(self, base_layer: nn.Module, width: int, out: int) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(5)
        self.base_layer = base_layer
        self.lora_A = nn.ParameterDict({"formal": torch.randn(2, width, generator=noise)})
        self.lora_B = nn.ParameterDict({"formal": torch.randn(out, 2, generator=noise)})
        self.disable_adapters = False
        self.merged_adapters: list[str] = []
        self.active_adapters = ["formal"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        base = self.base_layer(x)
        if self.disable_adapters or self.merged_adapters:
            return base
        return base + x @ self.lora_A["formal"].T @ self.lora_B["formal"].T

    def merge(self) -> None:
        delta = self.lora_B["formal"] @ self.lora_A["formal"]
        self.base_layer.weight.data += delta  # as PEFT does it, unseen by version counters
        self.merged_adapters = ["formal"]


@pytest.fixture
def lab() -> steer_zoo.Lab:
    return copy.copy(steer_zoo.lab("llama", "add"))


def over(lab: steer_zoo.Lab, model: Any) -> DSPA:
    return DSPA(
        tiny.nnsight_model(model, lab.tok), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip


def adapt(model: Any) -> Adapted:
    layer = model.model.layers[1].mlp
    layer.down_proj = Adapted(layer.down_proj, 48, tiny.HIDDEN)
    return layer.down_proj


@contextmanager
def off(layer: Adapted) -> Iterator[None]:
    layer.disable_adapters = True
    yield
    layer.disable_adapters = False


def test_adapters_on_off_and_merged_have_their_fingerprints() -> None:
    model = tiny.model("llama")
    read = Fingerprint()

    def identity() -> tuple[Any, ...]:
        return tuple(read.read(model, "model.layers", 2).values())

    base = identity()
    layer = adapt(model)
    adapted = identity()
    assert (base[0], adapted[0]) == ("none", "formal")
    assert base[1] != adapted[1]
    with off(layer):
        assert identity() == base
    layer.merge()
    merged = identity()
    assert merged[0] == "none"
    assert merged[1] not in (base[1], adapted[1])


def test_any_changed_entry_up_to_the_output_layer_and_none_above_changes_it() -> None:
    model = tiny.model("llama")
    read = Fingerprint()
    before = read.read(model, "model.layers", 2)
    assert Fingerprint().read(tiny.model("llama"), "model.layers", 2) == before
    with torch.no_grad():
        model.model.layers[3].mlp.down_proj.weight += 1
        model.lm_head.weight += 1
        assert read.read(model, "model.layers", 2) == before
        model.model.layers[2].mlp.down_proj.weight[7, 5] += 1e-3
    assert read.read(model, "model.layers", 2) != before
    assert Fingerprint().read(tiny.model("llama", seed=1), "model.layers", 2) != before


def test_a_model_that_is_not_loaded_has_no_fingerprint() -> None:
    with torch.device("meta"):
        model = tiny.model("llama")
    assert Fingerprint().read(model, "model.layers", 2) == {"adapters": "none", "weights": None}


def test_weights_of_two_dtypes_and_names_of_adapters_are_not_compared() -> None:
    one = {"weights": "float32:aa", "adapters": "formal"}
    assert contradicting(one, {"weights": "bfloat16:bb", "adapters": "default"}, OF_MAPS) is None
    assert contradicting(one, {"weights": "float32:bb"}, OF_MAPS) is not None
    assert contradicting(one, {}, OF_MAPS) is None
    assert contradicting(one, {"adapters": "none"}, OF_MAPS) == (
        "active adapters:",
        "formal",
        "none",
    )


def test_a_checkpoint_of_the_base_is_not_resumed_with_an_adapter_on(
    lab: steer_zoo.Lab, tmp_path: Path
) -> None:
    model = tiny.model("llama")
    dspa = over(lab, model)
    base = dspa.count(lab.triples, checkpoint=tmp_path, progress=False)
    layer = adapt(model)
    with pytest.raises(CountsError, match="was taken with another adapters, weights; give an empt"):
        dspa.count(lab.triples, checkpoint=tmp_path, progress=False)
    adapted = dspa.count(lab.triples, progress=False)
    assert not np.array_equal(adapted.chosen.toarray(), base.chosen.toarray())
    with pytest.raises(CountsError, match="with active adapters: none and another with active ad"):
        base.subset([0]).merge(adapted.subset([1]))
    with off(layer):
        again = dspa.count(lab.triples, checkpoint=tmp_path, progress=False)
    assert np.array_equal(again.chosen.toarray(), base.chosen.toarray())


def test_a_map_of_the_adapted_model_is_refused_on_the_base_naming_both(
    lab: steer_zoo.Lab,
) -> None:
    model = tiny.model("llama")
    dspa = over(lab, model)
    layer = adapt(model)
    map = dspa.fit(lab.triples, progress=False)
    plan = dspa.plan(map, "sun")
    said = "fitted with active adapters: formal, but it is used with active adapters: none"
    with off(layer):
        for use in (
            lambda: dspa.plan(map, "sun"),
            lambda: dspa.attach(model, map),
            lambda: dspa.attach(model, plan),
        ):
            with pytest.raises(MapError, match=said):
                use()
        with pytest.raises(MapError, match=said), dspa.model.trace("sun moon"):
            dspa.apply(map, positions="all")


def test_other_weights_under_one_name_are_refused_naming_both(lab: steer_zoo.Lab) -> None:
    other = tiny.model("llama", seed=1)
    said = r"fitted with weights of the fingerprint float32:\w{16}, but it is used with weights of"
    with pytest.raises(MapError, match=said):
        over(lab, other).plan(lab.map, "sun")
    with pytest.raises(MapError, match=said):
        lab.dspa.attach(other, lab.map)


def test_files_of_before_know_no_weights_and_are_taken(lab: steer_zoo.Lab, tmp_path: Path) -> None:
    counts = lab.dspa.count(lab.triples, checkpoint=tmp_path, progress=False)
    chunk = ActivationCounts.load(tmp_path / "chunk-00000")
    del chunk.provenance["adapters"], chunk.provenance["weights"]
    chunk.save(tmp_path / "chunk-00000")
    again = lab.dspa.count(lab.triples, checkpoint=tmp_path, progress=False)
    assert np.array_equal(again.chosen.toarray(), counts.chosen.toarray())
    assert lab.dspa.plan(again.fit(), "sun")
    assert "weights" not in ConditionalDifferenceMap.load(BEFORE / "map").provenance


def test_the_strength_of_an_adapter_counts_though_it_is_no_parameter() -> None:
    model = tiny.model("llama")
    layer: Any = adapt(model)
    found = set()
    for scaling in ({"formal": 1.0}, {"formal": 0.5}, {"formal": 0.5, "idle": 3.0}):
        layer.scaling = scaling
        found.add(Fingerprint().read(model, "model.layers", 2)["weights"])
    assert len(found) == 2
    read = Fingerprint()
    before = read.read(model, "model.layers", 2)
    layer.scaling["formal"] = 2.0
    assert read.read(model, "model.layers", 2) != before


def test_weights_that_are_buffers_count_and_tables_made_on_loading_do_not() -> None:
    model = tiny.model("llama")
    layer = model.model.layers[1].mlp.down_proj
    weight = layer.weight.data
    del layer.weight
    layer.register_buffer("weight", weight.clone())  # as quantised layers hold theirs
    layer.register_buffer("table", torch.zeros(3), persistent=False)
    before = Fingerprint().read(model, "model.layers", 2)
    layer.table += 1
    assert Fingerprint().read(model, "model.layers", 2) == before
    layer.weight += 1
    assert Fingerprint().read(model, "model.layers", 2) != before


class Kept(nn.Module):
    """A module of which an adapter holds a whole copy, with the face that PEFT gives one."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original_module = original
        self.modules_to_save = nn.ModuleDict({"formal": copy.deepcopy(original)})
        self.disable_adapters = False
        self.active_adapters = ["formal"]


def test_a_module_that_an_adapter_replaces_counts_as_the_one_in_use() -> None:
    model = tiny.model("llama")
    base = Fingerprint().read(model, "model.layers", 2)
    mlp = model.model.layers[1].mlp
    kept = mlp.down_proj = Kept(mlp.down_proj)
    with torch.no_grad():
        kept.modules_to_save["formal"].get_parameter("weight").add_(1)
    adapted = Fingerprint().read(model, "model.layers", 2)
    assert adapted["adapters"] == "formal"
    assert adapted["weights"] != base["weights"]
    kept.disable_adapters = True
    assert Fingerprint().read(model, "model.layers", 2) == base


def test_an_adapter_that_is_switched_while_attach_steers_is_refused(lab: steer_zoo.Lab) -> None:
    model = tiny.model("llama")
    dspa = over(lab, model)
    layer = adapt(model)
    map = dspa.fit(lab.triples, progress=False)
    ids = torch.tensor([lab.ids("sun moon")])
    said = "fitted with active adapters: formal, but it is used with active adapters: none"
    with dspa.attach(model, map) as edits:
        with off(layer), pytest.raises(MapError, match=said):
            model.generate(ids, max_new_tokens=1)
        assert edits.runs == 0


class Prefixed(nn.Module):
    """A model that PEFT runs with virtual tokens in front, as its wrapper shows it."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        self.peft_config = {"default": type("Config", (), {"is_prompt_learning": True})()}

    def get_base_model(self) -> Any:
        return self.base


def test_virtual_tokens_are_refused(lab: steer_zoo.Lab) -> None:
    sentence = "Prefixed puts virtual tokens in front of every prompt"
    with pytest.raises(SteeringError, match=sentence):
        lab.dspa.attach(Prefixed(lab.hf), lab.map)
    with pytest.raises(SteeringError, match=sentence):
        read_facts(Prefixed(lab.hf), lab.tok)


# -- every entry in its place, and the configuration -----------------------------------------------


def test_entries_that_change_places_change_it_though_their_sum_stays() -> None:
    model = tiny.model("llama")
    before = Fingerprint().read(model, "model.layers", 2)
    weight = model.model.layers[1].self_attn.q_proj.weight.data
    kept = weight.clone()
    # Rows, columns in pairs (words of eight bytes are added), and two words of two rows.
    for one, other in ((np.s_[3], np.s_[9]), (np.s_[:, 2:4], np.s_[:, 10:12]),
                       (np.s_[4, 6:8], np.s_[11, 14:16])):  # fmt: skip
        weight[one], weight[other] = kept[other], kept[one]
        swapped = Fingerprint().read(model, "model.layers", 2)
        assert swapped["every_weight"] != before["every_weight"]
        weight.copy_(kept)
    layer = model.model.layers[1]
    layer.input_layernorm, layer.post_attention_layernorm = (
        layer.post_attention_layernorm, layer.input_layernorm,
    )  # fmt: skip
    with torch.no_grad():
        layer.input_layernorm.weight += 1
    moved = Fingerprint().read(model, "model.layers", 2)
    layer.input_layernorm, layer.post_attention_layernorm = (
        layer.post_attention_layernorm, layer.input_layernorm,
    )  # fmt: skip
    assert Fingerprint().read(model, "model.layers", 2)["weights"] == moved["weights"]
    assert Fingerprint().read(model, "model.layers", 2)["every_weight"] != moved["every_weight"]


def test_what_stands_beside_the_blocks_counts_but_not_what_comes_after_them() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = {
        "n_layer": 2,
        "n_embd": 16,
        "n_head": 2,
        "vocab_size": 20,
        "n_positions": 8,
    }
    model: Any = GPT2LMHeadModel(GPT2Config(**sizes))
    before = Fingerprint().read(model, "transformer.h", 1)
    with torch.no_grad():
        model.transformer.ln_f.weight += 1
        assert Fingerprint().read(model, "transformer.h", 1) == before
        model.transformer.wpe.weight[3, 5] += 1e-3
    after = Fingerprint().read(model, "transformer.h", 1)
    assert after["weights"] == before["weights"]
    assert after["every_weight"] != before["every_weight"]


def test_one_entry_changed_through_data_is_seen_where_counts_are_taken(lab: steer_zoo.Lab) -> None:
    model = tiny.model("llama")
    dspa = over(lab, model)
    before = dspa.provenance()
    flat = model.model.layers[1].mlp.up_proj.weight.data.view(-1)
    flat[3] += 1  # none of those that are looked at on every call, and `.data` counts no version
    assert dspa.provenance() == before
    counts = dspa.count(lab.triples, progress=False)
    assert counts.provenance["every_weight"] != before["every_weight"]
    with pytest.raises(MapError, match="fitted with weights of the fingerprint"):
        over(lab, tiny.model("llama")).plan(counts.fit(percentile=50), "sun")


def same_weights(lab: steer_zoo.Lab, **changes: Any) -> DSPA:
    model = tiny.model("llama", **changes)
    model.load_state_dict(
        {name: value for name, value in lab.hf.state_dict().items() if name in model.state_dict()}
    )
    return over(lab, model)


ROPE = {"rope_type": "default", "rope_theta": 50.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rms_norm_eps": 0.5}, "rms_norm_eps 1e-06, but it is used with rms_norm_eps 0.5; use"),
        (
            {"rope_parameters": ROPE},
            r"rope_parameters \{.*10000.* with rope_parameters \{.*50",
        ),
        ({"hidden_act": "gelu"}, "hidden_act silu, but it is used with hidden_act gelu"),
    ],
)
def test_another_configuration_over_the_same_weights_is_refused_naming_the_field(
    lab: steer_zoo.Lab, change: dict[str, Any], said: str
) -> None:
    other = same_weights(lab, **change)
    assert other.identity()["every_weight"] == lab.dspa.identity()["every_weight"]
    for use in (
        lambda: other.plan(lab.map, "sun"),
        lambda: lab.dspa.attach(other.model._module, lab.map),
    ):
        with pytest.raises(MapError, match=f"this map was fitted with {said}"):
            use()
    with pytest.raises(CountsError, match=said.partition(" ")[0]):
        lab.dspa.count(lab.triples[:1], progress=False).merge(
            other.count(lab.triples[1:], progress=False)
        )


def test_a_number_that_somebody_set_on_a_module_is_another_model(lab: steer_zoo.Lab) -> None:
    model = tiny.model("llama")
    model.model.layers[0].self_attn.scaling = 3.0
    with pytest.raises(MapError, match=r"fitted with values on its modules \(transformers 5"):
        over(lab, model).plan(lab.map, "sun")


@pytest.mark.parametrize(
    "change",
    [
        {"attn_implementation": "eager"},
        {"use_cache": False, "attention_dropout": 0.1, "initializer_range": 0.1},
        {"max_position_embeddings": 256, "pad_token_id": None, "num_hidden_layers": 3},
    ],
)
def test_what_changes_no_count_is_taken(lab: steer_zoo.Lab, change: dict[str, Any]) -> None:
    assert same_weights(lab, **change).plan(lab.map, "sun")


def test_of_two_versions_configurations_the_shared_fields_are_compared() -> None:
    one = {"config": {"eps": 1e-6, "values (transformers 5.23.0)": "aa"}}
    other = {"config": {"eps": 1e-6, "values (transformers 5.24.0)": "bb", "new": True}}
    assert contradicting(one, other, OF_MAPS) is None
    assert unequal(one, other) == unequal(one, {}) == []
    other["config"]["eps"] = 1e-5
    assert contradicting(one, other, OF_MAPS) == ("eps", "1e-06", "1e-05")
    assert unequal(one, other) == ["config"]


def test_files_that_hold_sums_alone_are_checked_by_them(lab: steer_zoo.Lab, tmp_path: Path) -> None:
    lab.map.save(tmp_path)
    map = ConditionalDifferenceMap.load(tmp_path)
    del map.provenance["every_weight"], map.provenance["config"]
    assert lab.dspa.plan(map, "sun")
    with pytest.raises(MapError, match=r"fitted with weights of the fingerprint float32:\w{16}"):
        over(lab, tiny.model("llama", seed=1)).plan(map, "sun")
