import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from dspa_nn.errors import DSPAWarning, SAEError
from dspa_nn.saes import REFUSED, load_sae, sae_types, saved_as
from tests import sae_zoo as zoo
from tests.sae_zoo import assert_one_sentence, said

HANDLED, SAVED_AS = tuple(sae_types()), saved_as()

# --- every type of SAELens' registry -------------------------------------------------------------


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


# --- objects and folders -------------------------------------------------------------------------


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


# --- normalisation that was never folded ---------------------------------------------------------


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


# --- weights that cannot be used -----------------------------------------------------------------


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


def test_a_k_of_no_latent_is_refused():
    with pytest.raises(SAEError, match=r"keeps k = 0 latents, so that none would ever fire"):
        load_sae(zoo.build("topk", k=0))


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
