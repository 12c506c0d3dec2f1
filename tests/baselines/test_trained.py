"""What training leaves as methods: on inside the context, and the model as it was outside."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from dspa_nn import FileError, SteeringError
from dspa_nn.baselines import AdapterMethod, Subject, WeightsMethod
from tests import tiny

IDS = torch.tensor([[20, 30, 40]])

# PEFT calls it by its old name.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
    # PEFT looks on the hub for the config of a model that was made here.
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]


@pytest.fixture
def subject() -> Subject:
    """A model of its own: adapters put layers into it."""
    return Subject(tiny.nnsight_model(tiny.model("llama"), tiny.tokenizer("markup")))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def save_adapter(hf: Any, folder: Path) -> torch.Tensor:
    """An adapter that does something, trained elsewhere; the logits with it."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted: Any = get_peft_model(copy.deepcopy(hf), config)
    adapted.save_pretrained(folder)
    return logits(adapted)


def test_an_adapter_is_on_inside_and_off_outside(subject: Subject, tmp_path: Path) -> None:
    hf = subject.model._module
    before, wanted = logits(hf), save_adapter(hf, tmp_path)
    method = AdapterMethod("DPO, LoRA", subject, tmp_path)
    for _ in range(2):
        with method.steering([]):
            assert torch.allclose(logits(hf), wanted, atol=1e-5)
        assert torch.equal(logits(hf), before)
    assert not torch.allclose(wanted, before, atol=1e-2)


def test_adapters_of_one_name_are_told_apart(subject: Subject, tmp_path: Path) -> None:
    """By their folder, and by when it was written: trained again, it is read again."""
    hf = subject.model._module
    plain = copy.deepcopy(hf)
    for folder in (tmp_path / "first", tmp_path / "second", tmp_path / "first"):
        wanted = save_adapter(plain, folder)
        with AdapterMethod("DPO", subject, folder).steering([]):
            assert torch.allclose(logits(hf), wanted, atol=1e-5)


def test_an_adapter_of_another_base_model_is_refused(subject: Subject, tmp_path: Path) -> None:
    save_adapter(subject.model._module, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "google/gemma-2-2b"
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    words = "was fitted with model gemma-2-2b, but it is used with model tiny-llama"
    with (
        pytest.raises(SteeringError, match=words),
        AdapterMethod("DPO", subject, tmp_path).steering([]),
    ):
        pass


@pytest.mark.parametrize("kept", [0, 100, None])
def test_a_damaged_or_missing_adapter_is_one_sentence_every_time(
    subject: Subject, tmp_path: Path, kept: int | None
) -> None:
    save_adapter(subject.model._module, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:kept])
    for _ in range(2):  # nothing half loaded is left in the model
        with (
            pytest.raises(FileError, match=r"adapter_model.safetensors cannot be read \("),
            AdapterMethod("DPO", subject, tmp_path).steering([]),
        ):
            pass


def test_damaged_weights_are_one_sentence(subject: Subject, tmp_path: Path) -> None:
    subject.model._module.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with (
        pytest.raises(FileError, match=r"model.safetensors cannot be read \("),
        WeightsMethod("SFT", subject, tmp_path).steering([]),
    ):
        pass


def test_an_adapter_of_other_weights_is_refused(subject: Subject, tmp_path: Path) -> None:
    save_adapter(subject.model._module, tmp_path)
    origin = {"model_id": "tiny-llama", "weights": "float32:0123"}
    (tmp_path / "run.json").write_text(json.dumps({"origin": origin}))
    with (
        pytest.raises(SteeringError, match="fitted with weights of the fingerprint float32:0123"),
        AdapterMethod("DPO", subject, tmp_path).steering([]),
    ):
        pass


def test_trained_weights_take_the_places_of_the_models(subject: Subject, tmp_path: Path) -> None:
    hf = subject.model._module
    trained = tiny.model("llama", seed=1)
    trained.save_pretrained(tmp_path)
    before = logits(hf)
    with WeightsMethod("SFT", subject, tmp_path).steering([]):
        assert torch.equal(logits(hf), logits(trained))
    assert torch.equal(logits(hf), before)


def test_trained_weights_fit_a_model_that_holds_an_adapter(
    subject: Subject, tmp_path: Path
) -> None:
    hf = subject.model._module
    save_adapter(hf, tmp_path / "dpo")
    trained = tiny.model("llama", seed=1)
    trained.save_pretrained(tmp_path / "sft")
    before = logits(hf)
    with AdapterMethod("DPO", subject, tmp_path / "dpo").steering([]):
        pass
    with WeightsMethod("SFT", subject, tmp_path / "sft").steering([]):
        assert torch.equal(logits(hf), logits(trained))
    assert torch.equal(logits(hf), before)


def test_weights_of_other_shapes_leave_the_model_alone(subject: Subject, tmp_path: Path) -> None:
    hf = subject.model._module
    tiny.model("llama", intermediate_size=40).save_pretrained(tmp_path)
    before = logits(hf)
    with (
        pytest.raises(SteeringError, match=r"holds model.layers.0.mlp\S+ of shape \(\d+, \d+\)"),
        WeightsMethod("SFT", subject, tmp_path).steering([]),
    ):
        pass
    assert torch.equal(logits(hf), before)


@pytest.mark.parametrize("method", [AdapterMethod, WeightsMethod])
def test_a_folder_of_nothing_is_one_sentence(subject: Subject, method: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(FileError, match="; give a folder "),
        method("x", subject, tmp_path).steering([]),
    ):
        pass
