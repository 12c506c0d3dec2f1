from pathlib import Path

import pytest
import torch

from dspa_nn.errors import SAEError
from dspa_nn.saes import check_sae, load_sae, residual_layer, same_model
from tests import sae_zoo as zoo
from tests.sae_zoo import said


@pytest.mark.parametrize(
    ("hook_name", "layer"),
    [
        (None, None),
        ("blocks.0.hook_resid_post", 0),
        ("blocks.12.hook_resid_post", 12),
        ("blocks.12.hook_resid_pre", 11),
        ("blocks.5.hook_out", 5),
        ("blocks.5.hook_in", 4),
        ("model.layers.7", 7),
        ("model.language_model.layers.7", 7),
        ("transformer.h.3", 3),
    ],
)
def test_the_layer_is_the_block_whose_output_is_read(hook_name, layer):
    metadata = {} if hook_name is None else {"hook_name": hook_name}
    assert load_sae(zoo.build("topk", metadata=metadata)).layer == layer


@pytest.mark.parametrize(
    "hook_name",
    [
        "blocks.4.attn.hook_z",
        "blocks.4.hook_attn_out",
        "blocks.4.hook_mlp_out",
        "blocks.4.hook_mlp_in",
        "blocks.4.mlp.hook_post",
        "blocks.4.ln2.hook_normalized",
        "blocks.4.hook_resid_mid",
        "blocks.0.hook_resid_pre",
        "hook_embed",
        "model.layers.4.mlp",
    ],
)
def test_hooks_off_the_residual_stream_are_refused(hook_name):
    with pytest.raises(SAEError) as error:
        load_sae(zoo.build("topk", metadata={"hook_name": hook_name}))
    assert said(error) == (
        f"the SAE TopKSAE@{hook_name} reads {hook_name!r}, which is not the output of a decoder "
        "block: use an SAE of the residual stream, such as 'blocks.9.hook_resid_post'"
    )


@pytest.mark.parametrize(
    ("metadata", "changes"),
    [
        ({"hook_name": "blocks.4.attn.hook_z"}, {"reshape_activations": "hook_z"}),
        ({"hook_name": "blocks.4.hook_resid_post", "hook_head_index": 2}, {}),
    ],
)
def test_saes_of_attention_heads_are_refused(metadata, changes):
    with pytest.raises(SAEError) as error:
        load_sae(zoo.build("standard", metadata=metadata, **changes))
    hook_name = metadata["hook_name"]
    assert said(error) == (
        f"the SAE StandardSAE@{hook_name} reads the attention heads at {hook_name!r}, not the "
        "residual stream: use an SAE of the residual stream, such as 'blocks.9.hook_resid_post'"
    )


def test_an_sae_that_writes_elsewhere_is_refused():
    metadata = {
        "hook_name": "blocks.4.hook_resid_post",
        "hook_name_out": "blocks.5.hook_resid_post",
    }
    with pytest.raises(SAEError) as error:
        load_sae(zoo.build("standard", metadata=metadata))
    assert said(error) == (
        "the SAE StandardSAE@blocks.4.hook_resid_post reads 'blocks.4.hook_resid_post' and writes "
        "'blocks.5.hook_resid_post', as a transcoder does: use an SAE that reconstructs what it "
        "reads"
    )


def test_residual_layer_needs_no_sae():
    assert residual_layer("blocks.3.hook_resid_post", "mine") == 3
    with pytest.raises(SAEError, match="the SAE mine reads 'nowhere'"):
        residual_layer("nowhere", "mine")


def check(sae, **changes):
    asked = {
        "layer": 3,
        "n_layers": 8,
        "d_model": zoo.D_MODEL,
        "model_name": "google/gemma-2-2b",
        "role": "input",
    }
    check_sae(sae, **{**asked, **changes})


@pytest.fixture
def sae():
    metadata = {"hook_name": "blocks.3.hook_resid_post", "model_name": "gemma-2-2b"}
    return load_sae(zoo.build("topk", metadata=metadata))


def test_what_agrees_or_is_absent_is_accepted(sae):
    silent = load_sae(zoo.build("topk", metadata={}))
    check(sae)
    check(sae, layer=None)
    check(sae, model_name=None)
    check(silent, layer=6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"d_model": 2304},
            "the input SAE TopKSAE@blocks.3.hook_resid_post reads vectors of width 16, but the "
            "model's residual stream has width 2304: use an SAE of this model",
        ),
        (
            {"layer": 4, "role": "output"},
            "the output SAE TopKSAE@blocks.3.hook_resid_post reads the output of layer 3 (hook "
            "blocks.3.hook_resid_post), but layer 4 was asked for: pass output_layer=3, or another "
            "SAE",
        ),
        (
            {"layer": 8},
            "the input SAE TopKSAE@blocks.3.hook_resid_post is to read layer 8, but the model's "
            "layers are 0 to 7: pass an input_layer of this model",
        ),
        (
            {"layer": -1, "role": "output"},
            "the output SAE TopKSAE@blocks.3.hook_resid_post is to read layer -1, but the model's "
            "layers are 0 to 7: pass an output_layer of this model",
        ),
        (
            {"layer": None, "n_layers": 2},
            "the input SAE TopKSAE@blocks.3.hook_resid_post is to read layer 3, but the model's "
            "layers are 0 to 1: pass an input_layer of this model",
        ),
        (
            {"model_name": "Qwen/Qwen3-8B"},
            "the input SAE TopKSAE@blocks.3.hook_resid_post was trained on 'gemma-2-2b', but the "
            "model is 'Qwen/Qwen3-8B': use an SAE of this model, or say same_model_as='gemma-2-2b' "
            "if it is that model under another name",
        ),
    ],
)
def test_contradictions_name_both_sides(sae, changes, text):
    with pytest.raises(SAEError) as error:
        check(sae, **changes)
    assert said(error) == text


def test_no_layer_anywhere_is_refused():
    silent = load_sae(zoo.build("topk", metadata={}))
    with pytest.raises(SAEError) as error:
        check(silent, layer=None, role="output")
    assert said(error) == (
        "the output SAE TopKSAE@no hook name does not say which layer it reads: pass output_layer="
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gemma-2-2b", "google/gemma-2-2b", True),
        ("gemma-2-2b", "google/gemma-2-2b-it", True),
        ("google/gemma-3-1b-pt", "google/gemma-3-1b-it", True),
        ("Qwen/Qwen3-8B-Base", "qwen3-8b", True),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Llama-3-8B", True),
        ("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("gpt2-small", "openai-community/gpt2", True),
        ("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.2", True),
        ("https://huggingface.co/google/gemma-2-9b", "google/gemma-2-9b", True),
        ("SmolLM2-135M", "/c/hub/models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots/q", True),
        ("gemma-2-2b", "/home/me/finetuned", True),  # a folder's name says nothing
        ("gemma-2-2b", "google/gemma-2-9b", False),
        ("gemma-2-2b", "google/gemma-2b", False),
        ("gemma-2-2b", "gemma-3-2b", False),
        ("gpt2", "gpt2-medium", False),
        ("pythia-70m-deduped", "EleutherAI/pythia-70m", False),
        ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.3", False),
        ("SmolLM2-360M", "/c/hub/models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots/q", False),
        ("tiny-llama", "tiny-gemma2", False),
    ],
)
def test_model_names_are_compared_leniently(one, other, same):
    assert same_model(one, other) is same
    assert same_model(other, one) is same


def test_the_embedded_saes_load_if_they_are_there():
    from importlib.resources import files

    folders = [p.parent for p in Path(str(files("dspa_nn"))).glob("assets/saes/*/cfg.json")]
    if not folders:
        pytest.skip("no embedded SAEs in dspa_nn/assets/saes yet")
    for folder in folders:
        loaded = load_sae(folder)
        check_sae(
            loaded,
            layer=None,
            n_layers=30,
            d_model=576,
            model_name="HuggingFaceTB/SmolLM2-135M-Instruct",
            role="input",
        )
        assert loaded.dtype == torch.float32
