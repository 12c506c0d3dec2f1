import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dspa_nn.errors import DSPAWarning, SAEError
from dspa_nn.sae import check_sae, load_sae
from dspa_nn.sae_checks import HANDLED, REFUSED, SAVED_AS, residual_layer, same_model
from dspa_nn.sae_sources import split_release
from tests import sae_zoo as zoo


def said(error):
    return str(error.value)


def assert_one_sentence(text):
    assert "\n" not in text
    assert not re.search(r"[.!?] +[A-Z]", text)


# --- every type of SAELens' registry ---------------------------------------------------------


@pytest.mark.parametrize("architecture", zoo.architectures())
def test_every_type_of_saelens_is_handled_or_refused_by_name(architecture):
    known = [architecture in table for table in (HANDLED, SAVED_AS, REFUSED)]
    assert sum(known) == 1, f"a type of SAELens that nothing here says how to treat: {architecture}"
    sae = zoo.build(architecture, training=architecture in SAVED_AS)
    if architecture in REFUSED:
        with pytest.raises(SAEError, match=f"is of type '{architecture}'") as error:
            load_sae(sae)
        assert "at hook 'blocks.3.hook_resid_post'" in said(error)
        assert_one_sentence(said(error))
    else:
        loaded = load_sae(sae)
        assert loaded.encoder.rule["architecture"] == SAVED_AS.get(architecture, architecture)
        assert (loaded.width, loaded.d_model, loaded.layer) == (zoo.WIDTH, zoo.D_MODEL, 3)


def test_the_refusal_of_a_type_says_why_and_what_to_use():
    with pytest.raises(SAEError) as error:
        load_sae(zoo.build("temporal"))
    assert said(error) == (
        "the SAE TemporalSAE@blocks.3.hook_resid_post at hook 'blocks.3.hook_resid_post' is of "
        "type 'temporal', which cannot be steered with (its latents depend on the tokens before, "
        "through attention): use one of type standard, gated, jumprelu, topk, abstopk, "
        "matching_pursuit, batchtopk, matryoshka_batchtopk"
    )


def test_a_type_that_is_new_to_us_is_refused(monkeypatch):
    from sae_lens import StandardSAEConfig

    sae = zoo.build("standard")
    monkeypatch.setattr(StandardSAEConfig, "architecture", classmethod(lambda cls: "novel"))
    with pytest.raises(SAEError, match=r"type 'novel', .* \(this type is not known to dspa_nn\)"):
        load_sae(sae)


# --- objects and folders ---------------------------------------------------------------------


@pytest.mark.parametrize("architecture", HANDLED)
def test_a_folder_is_the_object_that_was_saved(architecture, tmp_path):
    sae = zoo.build(architecture, seed=4)
    sae.save_model(tmp_path / "saved")
    ours, folder = load_sae(sae), load_sae(tmp_path / "saved")
    hidden = zoo.hidden(9)
    assert torch.equal(folder.encoder.encode(hidden)[0], sae.encode(hidden))
    assert torch.equal(folder.decoder, ours.decoder)
    assert folder.sha256 == ours.sha256
    assert folder.id == "saved"
    assert ours.id == f"{type(sae).__name__}@blocks.3.hook_resid_post"
    assert load_sae(str(tmp_path / "saved")).sha256 == ours.sha256


@pytest.mark.parametrize("normalise", ["none", "layer_norm"])
@pytest.mark.parametrize("architecture", zoo.training_architectures())
def test_a_training_object_is_what_saelens_would_save_for_inference(
    architecture, normalise, tmp_path
):
    from sae_lens import SAE

    sae = zoo.build(architecture, training=True, normalize_activations=normalise, seed=5)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    ours = load_sae(sae)
    assert all(torch.equal(before[name], now) for name, now in sae.state_dict().items())

    sae.save_inference_model(tmp_path)
    reference = SAE.load_from_disk(tmp_path)
    hidden = zoo.hidden(9)
    latents, scale = ours.encoder.encode(hidden)
    theirs = reference.encode(hidden)
    assert torch.equal(latents, theirs)
    assert 0 < (latents > 0).sum() < latents.numel()
    assert (scale is None) == (normalise == "none")
    assert ours.sha256 == load_sae(tmp_path).sha256


@pytest.mark.parametrize("architecture", SAVED_AS)
def test_a_folder_saved_while_training_is_converted_too(architecture, tmp_path):
    sae = zoo.build(architecture, training=True)
    sae.save_model(tmp_path)
    assert load_sae(tmp_path).sha256 == load_sae(sae).sha256


def test_weights_stored_as_float16_run_in_the_dtype_of_the_config(tmp_path):
    from sae_lens import SAE

    zoo.build("topk").save_model(tmp_path)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    save_file({n: t.half() for n, t in weights.items()}, tmp_path / "sae_weights.safetensors")
    loaded = load_sae(tmp_path)
    theirs = SAE.load_from_disk(tmp_path)
    assert loaded.dtype == loaded.decoder.dtype == torch.float32
    hidden = zoo.hidden(6)
    assert torch.equal(loaded.encoder.encode(hidden)[0], theirs.encode(hidden))
    assert loaded.sha256 == load_sae(theirs).sha256  # the file's layout is not hashed


def test_the_hash_changes_with_any_weight_and_with_the_rule():
    sae = zoo.build("jumprelu")
    hashes = {load_sae(sae).sha256}
    for parameter in (sae.W_enc, sae.b_enc, sae.threshold, sae.W_dec, sae.b_dec):
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        hashes.add(load_sae(sae).sha256)
    hashes.add(load_sae(zoo.build("jumprelu", apply_b_dec_to_input=False)).sha256)
    hashes.add(load_sae(zoo.build("jumprelu", normalize_activations="layer_norm")).sha256)
    hashes.add(load_sae(zoo.build("jumprelu", dtype="bfloat16")).sha256)
    hashes.add(load_sae(zoo.build("topk", k=6)).sha256)
    hashes.add(load_sae(zoo.build("topk", k=7)).sha256)
    assert len(hashes) == 11


def test_the_hash_does_not_see_how_weights_lie_in_memory():
    sae = zoo.build("standard")
    before = load_sae(sae).sha256
    sae.W_enc.data = sae.W_enc.data.T.contiguous().T
    assert not sae.W_enc.is_contiguous()
    assert load_sae(sae).sha256 == before


def test_big_tensors_are_shared_with_the_object():
    sae = zoo.build("jumprelu")
    loaded = load_sae(sae)
    assert loaded.encoder.tensors["W_enc"].data_ptr() == sae.W_enc.data_ptr()
    assert loaded.decoder.data_ptr() == sae.W_dec.data_ptr()
    assert not loaded.decoder.requires_grad


def test_device_moves_encoder_and_decoder():
    loaded = load_sae(zoo.build("topk"), device=torch.device("cpu"))
    assert loaded.encoder.device == loaded.decoder.device == torch.device("cpu")


def test_repr_is_for_people():
    loaded = load_sae(zoo.build("topk"))
    assert repr(loaded) == (
        "LoadedSAE(TopKSAE@blocks.3.hook_resid_post: topk, 64 latents of 16, float32, layer 3, "
        f"sha256 {loaded.sha256[:12]})"
    )


def test_a_loaded_sae_is_taken_as_it_is():
    loaded = load_sae(zoo.build("topk"))
    assert load_sae(loaded) is loaded


# --- normalisation that was never folded ------------------------------------------------------


@pytest.mark.parametrize("normalise", ["expected_average_only_in", "covariance_whitening"])
def test_an_unfolded_normalisation_is_ignored_as_saelens_does_and_said(normalise):
    sae = zoo.build("standard", normalize_activations=normalise)
    with pytest.warns(DSPAWarning) as caught:
        loaded = load_sae(sae)
    assert str(caught[0].message) == (
        "the SAE StandardSAE@blocks.3.hook_resid_post was trained with normalize_activations="
        f"{normalise!r}, which was not folded into its weights and is ignored at run time, as "
        "SAELens does: fold it and save the SAE again if it encodes badly"
    )
    hidden = zoo.hidden(5)
    assert torch.equal(loaded.encoder.encode(hidden)[0], sae.encode(hidden))


def test_a_folded_normalisation_is_not_mentioned():
    sae = zoo.build("standard", normalize_activations="expected_average_only_in")
    sae.fold_activation_norm_scaling_factor(0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_sae(sae)
    hidden = zoo.hidden(5)
    assert torch.equal(loaded.encoder.encode(hidden)[0], sae.encode(hidden))


# --- hooks -----------------------------------------------------------------------------------


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


# --- weights that cannot be used ---------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_nan_and_infinity_are_refused(name, value):
    sae = zoo.build("jumprelu")
    with torch.no_grad():
        getattr(sae, name).view(-1)[-1] = value
    with pytest.raises(SAEError) as error:
        load_sae(sae)
    assert said(error) == (
        f"the SAE JumpReLUSAE@blocks.3.hook_resid_post holds NaN or infinity in {name}: its "
        "training has diverged or its file is damaged, so train, convert or download it again"
    )


def test_k_above_the_width_is_refused():
    with pytest.raises(SAEError) as error:
        load_sae(zoo.build("topk", k=65))
    assert said(error) == (
        "the SAE TopKSAE@blocks.3.hook_resid_post keeps k = 65 latents but has only 64: correct k "
        "in its config"
    )


def test_a_decoder_row_of_norm_zero_cannot_be_rescaled():
    sae = zoo.build("topk", rescale_acts_by_decoder_norm=True, d_sae=1500)
    with torch.no_grad():
        sae.W_dec[1234] = 0
    with pytest.raises(SAEError) as error:
        load_sae(sae)
    assert said(error) == (
        "the SAE TopKSAE@blocks.3.hook_resid_post rescales by decoder norms but its latent 1234 "
        "has a decoder row of norm 0: give that row any direction, or save the SAE with its norms "
        "folded"
    )


# --- sources that are none ---------------------------------------------------------------------


def test_something_else_is_refused():
    with pytest.raises(SAEError) as error:
        load_sae(torch.nn.Linear(3, 4))
    assert said(error) == (
        "an SAE was given as Linear: pass a SAELens SAE, the folder of one that SAELens saved, or "
        "'release/sae_id'"
    )


@pytest.mark.parametrize("missing", ["cfg.json", "sae_weights.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(missing, tmp_path):
    zoo.build("topk").save_model(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(SAEError) as error:
        load_sae(tmp_path)
    assert said(error) == (
        f"the folder {str(tmp_path)!r} holds no {missing}: pass a folder that SAELens' save_model "
        "or save_inference_model wrote"
    )


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SAEError, match=r"holds no cfg\.json"):
        load_sae(tmp_path / "nothing")
    with pytest.raises(SAEError, match="neither an existing folder nor 'release/sae_id'"):
        load_sae(str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_folder_cut_short_is_refused(name, tmp_path):
    zoo.build("topk").save_model(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(SAEError) as error:
        load_sae(tmp_path)
    assert said(error).startswith(f"the SAE in {str(tmp_path)!r} cannot be read (")
    assert said(error).endswith("): save it again with SAELens' save_model or save_inference_model")
    assert_one_sentence(said(error))


def test_a_config_that_is_no_object_is_refused(tmp_path):
    zoo.build("topk").save_model(tmp_path)
    (tmp_path / "cfg.json").write_text("[]")
    with pytest.raises(SAEError, match="cannot be read"):
        load_sae(tmp_path)


def test_a_folder_of_a_refused_type_is_refused_before_its_weights_are_read(tmp_path):
    (tmp_path / "sae_weights.safetensors").touch()
    config = {"architecture": "transcoder", "metadata": {"hook_name": "blocks.1.hook_mlp_in"}}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(SAEError, match=r"at hook 'blocks.1.hook_mlp_in' is of type 'transcoder'"):
        load_sae(tmp_path)


# --- release/sae_id ----------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """SAELens' loader, replaced: keeps what it was asked for, and returns one SAE."""
    import sae_lens

    asked = []

    def from_pretrained(release, sae_id, **options):
        asked.append((release, sae_id))
        return zoo.build("jumprelu", metadata={"hook_name": "blocks.20.hook_resid_post"})

    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", staticmethod(from_pretrained))
    return asked


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (
            "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71",
            ("gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71"),
        ),
        (
            "gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical",
            ("gemma-scope-2b-pt-res-canonical", "layer_7/width_16k/canonical"),
        ),
        (
            "gpt2-small-res-jb/blocks.8.hook_resid_pre",
            ("gpt2-small-res-jb", "blocks.8.hook_resid_pre"),
        ),
        ("someone/their-saes/layer_3/best", ("someone/their-saes", "layer_3/best")),
    ],
)
def test_a_release_ends_at_the_first_slash_unless_it_is_a_hub_repository(hub, source, parts):
    assert split_release(source) == parts
    loaded = load_sae(source)
    assert hub == [parts]
    assert loaded.id == source
    assert loaded.layer == 20


def test_an_unknown_release_is_refused_with_what_is_near(hub):
    with pytest.raises(SAEError) as error:
        load_sae("gemma-scope-2b-pt-ress/layer_20")
    assert said(error).startswith(
        "the SAE 'gemma-scope-2b-pt-ress/layer_20' is neither an existing folder nor "
        "'release/sae_id' of a release that SAELens lists (near it: gemma-scope-2b-pt-res"
    )
    assert said(error).endswith("): check the spelling, or pass the folder or the SAE itself")
    assert hub == []


@pytest.mark.parametrize("source", ["zzzz", "zzzz/", "./zzzz/y/x", "zzzz//y"])
def test_strings_that_name_nothing_are_refused(hub, source):
    with pytest.raises(SAEError) as error:
        load_sae(source)
    assert said(error) == (
        f"the SAE {source!r} is neither an existing folder nor 'release/sae_id' of a release that "
        "SAELens lists: check the spelling, or pass the folder or the SAE itself"
    )


def test_an_unknown_id_of_a_release_is_refused_with_what_is_near(hub):
    with pytest.raises(SAEError) as error:
        load_sae("gpt2-small-res-jb/blocks.8.hook_resid_pr")
    assert said(error).startswith(
        "the release 'gpt2-small-res-jb' has no SAE 'blocks.8.hook_resid_pr': choose among its 13, "
        "such as blocks.8.hook_resid_pre, "
    )


def test_no_network_is_one_sentence(monkeypatch):
    import sae_lens

    def offline(release, sae_id):
        raise OSError("Cannot reach the hub.\nTry again later.")

    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", staticmethod(offline))
    with pytest.raises(SAEError) as error:
        load_sae("gpt2-small-res-jb/blocks.8.hook_resid_pre")
    assert said(error) == (
        "the SAE 'blocks.8.hook_resid_pre' of release 'gpt2-small-res-jb' could not be loaded from "
        "the hub (OSError: Cannot reach the hub): check the name and the network, or download it "
        "and pass the folder"
    )


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A hub repository that lies in a folder."""
    from huggingface_hub.errors import EntryNotFoundError
    from sae_lens.loading import pretrained_sae_loaders

    def download(repo_id, filename, **options):
        assert repo_id == "someone/their-saes"
        if not (tmp_path / filename).exists():
            raise EntryNotFoundError(f"no {filename} in {repo_id}")
        return str(tmp_path / filename)

    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", download)
    return tmp_path


def test_a_hub_repository_in_the_layout_of_dictionary_learning_loads(repository):
    noise = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=noise)

    weights = {
        "encoder.weight": normal(zoo.WIDTH, zoo.D_MODEL),
        "encoder.bias": normal(zoo.WIDTH),
        "decoder.weight": normal(zoo.D_MODEL, zoo.WIDTH),
        "b_dec": normal(zoo.D_MODEL),
        "threshold": torch.tensor(2.5),
        "k": torch.tensor(6),
    }
    trainer = {
        "dict_class": "BatchTopKSAE",
        "layer": 9,
        "activation_dim": zoo.D_MODEL,
        "dict_size": zoo.WIDTH,
        "lm_name": "Qwen/Qwen3-8B",
        "k": 6,
    }
    folder = repository / "resid_post_layer_9" / "trainer_2"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"trainer": trainer, "buffer": {"ctx_len": 2048}})
    )
    torch.save(weights, folder / "ae.pt")

    loaded = load_sae("someone/their-saes/resid_post_layer_9/trainer_2")
    assert (loaded.layer, loaded.model_name) == (9, "Qwen3-8B")
    hidden = zoo.hidden(8)
    pre = (hidden - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"]
    expected = torch.where(pre > 2.5, pre, 0.0)
    torch.testing.assert_close(loaded.encoder.encode(hidden)[0], expected)
    assert torch.equal(loaded.decoder, weights["decoder.weight"].T)


def test_a_hub_repository_that_lacks_the_folder_is_one_sentence(repository):
    with pytest.raises(SAEError) as error:
        load_sae("someone/their-saes/layer_1")
    assert said(error) == (
        "the SAE 'layer_1' of release 'someone/their-saes' could not be loaded from the hub "
        "(EntryNotFoundError: no layer_1/cfg.json in someone/their-saes): check the name and the "
        "network, or download it and pass the folder"
    )


# --- against the model -------------------------------------------------------------------------


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
            "model is 'Qwen/Qwen3-8B': use an SAE of this model",
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
