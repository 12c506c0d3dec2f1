"""Artefacts on disk, and vectors from other packages' files."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch

from dspa_nn import FileError, SteeringError
from dspa_nn.baselines import (
    BASELINES,
    ControlVector,
    Instruction,
    baseline_method,
    fit_baseline,
    fit_cast,
    import_vector,
    load_baseline,
)
from dspa_nn.steering import SteeringMethod
from tests import steer_zoo
from tests.baselines import zoo
from tests.steer_zoo import Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "markup")


def source(lab: Lab, name: str) -> Any:
    kind = BASELINES[name].fitted_on
    return {"counts": lab.counts, "activations": zoo.taken("llama", "markup")}.get(kind, ())


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_fitted_saved_loaded_and_steers_the_same(
    lab: Lab, name: str, tmp_path: Path
) -> None:
    artefact = fit_baseline(name, lab.dspa, source(lab, name))
    method = baseline_method(name, lab.dspa, artefact)
    assert isinstance(method, SteeringMethod)
    assert method.name == BASELINES[name].title
    if artefact is None:
        return
    artefact.save(tmp_path)
    again = load_baseline(tmp_path, lab.dspa)
    assert again.name == method.name
    prompt = lab.dspa.render(lab.prompts(1)[0])
    ids = []
    for own in (method, again):
        with own.steering([prompt]):
            ids.append(lab.hf.generate(prompt.ids[None], max_new_tokens=4, do_sample=False))
    assert torch.equal(*ids)


def test_a_vector_knows_its_origin_and_its_gate(lab: Lab, tmp_path: Path) -> None:
    fitted = fit_cast(lab.dspa, zoo.taken("llama", "markup"))
    fitted.save(tmp_path)
    loaded = ControlVector.load(tmp_path)
    assert torch.equal(loaded.vector, fitted.vector)
    assert loaded.provenance == fitted.provenance
    assert loaded.condition is not None
    assert fitted.condition is not None
    assert torch.equal(loaded.condition.vector, fitted.condition.vector)
    for key in ("layer", "threshold", "larger", "tanh", "prompt_tokens"):
        assert getattr(loaded.condition, key) == getattr(fitted.condition, key)
    for key in ("model_id", "weights", "data_sha256", "triples", "pooling", "package_version"):
        assert loaded.provenance[key] is not None, key


def test_a_loaded_vector_is_refused_on_another_model(lab: Lab, tmp_path: Path) -> None:
    fit_baseline("caa", lab.dspa, source(lab, "caa")).save(tmp_path)
    other = steer_zoo.lab("qwen3", "none")
    words = "this vector was fitted with model tiny-llama, but it is used with model tiny-qwen3"
    with pytest.raises(SteeringError, match=words):
        load_baseline(tmp_path, other.dspa).steering([])


def test_a_damaged_or_missing_artefact_is_one_sentence(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"holds no vector.json, map.json or instruction.json"):
        load_baseline(tmp_path, lab.dspa)
    (tmp_path / "instruction.json").write_text("{}")
    with pytest.raises(FileError, match=r"has schema None, expected 'dspa_nn.instruction'"):
        Instruction.load(tmp_path)
    (tmp_path / "instruction.json").write_text("{")
    with pytest.raises(FileError, match=r"instruction.json cannot be read \("):
        Instruction.load(tmp_path)
    fit_baseline("caa", lab.dspa, source(lab, "caa")).save(tmp_path)
    tensors = next(tmp_path.glob("vector-*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(FileError, match="it was cut short or changed"):
        ControlVector.load(tmp_path)


def test_a_folder_of_two_artefacts_is_refused(lab: Lab, tmp_path: Path) -> None:
    for name in ("caa", "static-sae"):
        fit_baseline(name, lab.dspa, source(lab, name)).save(tmp_path)
    with pytest.raises(FileError, match=r"holds vector.json and map.json, of which one"):
        load_baseline(tmp_path, lab.dspa)


@pytest.mark.parametrize("body", [{}, {"text": 3}, {"text": "Be brief.", "provenance": 1}])
def test_an_instruction_without_words_is_one_sentence(tmp_path: Path, body: Any) -> None:
    body = {"schema": "dspa_nn.instruction", "version": 1, **body}
    (tmp_path / "instruction.json").write_text(json.dumps(body))
    with pytest.raises(FileError, match="holds no text of an instruction"):
        Instruction.load(tmp_path)


def test_a_vector_of_other_precision_is_saved_in_float32(tmp_path: Path) -> None:
    values = torch.linspace(0, 1, 32, dtype=torch.bfloat16).requires_grad_()
    ControlVector(2, values, "caa").save(tmp_path)
    assert torch.equal(ControlVector.load(tmp_path).vector, values.detach().float())


def test_a_vector_must_be_finite_and_its_condition_below_it() -> None:
    with pytest.raises(SteeringError, match="must hold 2 finite numbers"):
        ControlVector(2, torch.tensor([1.0, torch.nan]), "caa")
    with pytest.raises(
        SteeringError, match=r"name is 'repee'; expected one of .*did you mean 'repe'"
    ):
        fit_baseline("repee", steer_zoo.lab("llama", "markup").dspa, [])


# Files of repeng and steering-vectors


VECTORS = {1: torch.linspace(0, 1, 32), 3: torch.linspace(1, 0, 32)}


def write_gguf(path: Path) -> None:
    """As repeng's `ControlVector.export_gguf` does."""
    writer: Any = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(VECTORS))
    for layer, vector in VECTORS.items():
        writer.add_tensor(f"direction.{layer}", vector.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_torch(path: Path) -> None:
    torch.save({"layer_activations": VECTORS, "layer_type": "decoder_block"}, path)


def write_layers(path: Path) -> None:
    torch.save(VECTORS, path)


def write_safetensors(path: Path) -> None:
    tensors = {f"layer_activations.{layer}": vector for layer, vector in VECTORS.items()}
    safetensors.torch.save_file(tensors, path)


WRITERS = (
    ("v.gguf", write_gguf), ("v.pt", write_torch), ("v.bin", write_layers),
    ("v.safetensors", write_safetensors),
)  # fmt: skip


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_a_vector_of_another_package_steers(
    lab: Lab, tmp_path: Path, name: str, write: Any
) -> None:
    write(tmp_path / name)
    with pytest.raises(FileError, match="holds vectors of layers 1, 3; choose one with layer="):
        import_vector(tmp_path / name)
    with pytest.raises(FileError, match="holds vectors of layers 1, 3, and not of 2"):
        import_vector(tmp_path / name, layer=2)
    read = import_vector(tmp_path / name, layer=3, scale=4.0, model_id="tiny-llama")
    assert torch.equal(read.vector, VECTORS[3])
    assert read.provenance["imported"] == name
    assert read.provenance.get("model_type") == ("llama" if name.endswith("gguf") else None)
    prompt = lab.dspa.render("sun moon")
    with zoo.method(lab, read).steering([prompt]) as log:
        lab.hf.generate(prompt.ids[None], max_new_tokens=2)
    assert torch.allclose(log.norms(), torch.tensor(4.0 * read.norm).double())
    read.save(tmp_path / "saved")
    assert load_baseline(tmp_path / "saved", lab.dspa).name == "difference of means"


class Pickled:
    """What a steering vector is when the object itself is saved."""


def test_what_would_have_to_be_unpickled_is_refused(tmp_path: Path) -> None:
    torch.save(Pickled(), tmp_path / "v.pt")
    with pytest.raises(FileError, match=r"holds more than tensors .* nothing is unpickled here"):
        import_vector(tmp_path / "v.pt")


def test_a_layer_must_have_one_vector(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    safetensors.torch.save_file({"a.2": torch.ones(32), "b.2": torch.zeros(32)}, path)
    with pytest.raises(FileError, match="two tensors end in the number of layer 2"):
        import_vector(path)
    safetensors.torch.save_file({"layers.2": torch.ones(2, 16)}, path)
    with pytest.raises(FileError, match=r"layers.2 has shape \(2, 16\), where one vector"):
        import_vector(path)
    safetensors.torch.save_file({"layers.2": torch.ones(1, 32)}, path)
    assert import_vector(path).vector.shape == (32,)


def test_a_file_that_was_cut_short_is_said_to_be_damaged(tmp_path: Path) -> None:
    write_torch(tmp_path / "v.pt")
    (tmp_path / "v.pt").write_bytes((tmp_path / "v.pt").read_bytes()[:200])
    with pytest.raises(FileError, match=r"v.pt is damaged or holds more than tensors"):
        import_vector(tmp_path / "v.pt")


def test_other_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is no file; give the file that holds the vector"):
        import_vector(tmp_path / "none.pt")
    (tmp_path / "v.npy").write_bytes(b"")
    with pytest.raises(FileError, match=r"v.npy ends in '.npy', and vectors are read from .gguf"):
        import_vector(tmp_path / "v.npy")
    for name in ("v.gguf", "v.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind, but long enough to be looked at")
        with pytest.raises(FileError, match="cannot be read"):
            import_vector(tmp_path / name)
    torch.save({"weight": torch.ones(2)}, tmp_path / "v.pt")
    with pytest.raises(FileError, match="holds no vector by the number of its layer"):
        import_vector(tmp_path / "v.pt")
