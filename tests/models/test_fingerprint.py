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
