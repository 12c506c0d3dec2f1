import json

import pytest
import torch

from dspa_nn.errors import SAEError
from dspa_nn.saes import load_sae, split_release
from tests import sae_zoo as zoo
from tests.sae_zoo import assert_one_sentence, said


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


def test_a_mistyped_release_is_no_hub_repository(hub):
    with pytest.raises(SAEError) as error:
        load_sae("gemma-scope-2b-pt-res-cannonical/layer_20/width_16k/canonical")
    assert "(near it: gemma-scope-2b-pt-res-canonical" in said(error)
    assert hub == []


def test_a_hub_that_cannot_be_reached_is_not_asked_again_and_again(monkeypatch):
    import time

    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://nothing.invalid")
    monkeypatch.setattr("dspa_nn.files.hub.getproxies", dict)
    began = time.monotonic()
    for name in ("google/gemma-scope-2b-ptt/layer_20", "someone/their-saes/layer_1"):
        with pytest.raises(SAEError) as error:
            load_sae(name)
        listed = "(SAELens lists google/gemma-scope-2" in said(error)
        assert listed == name.startswith("google")
    assert time.monotonic() - began < 20
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


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
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError
    from sae_lens.loading import pretrained_sae_loaders

    def download(repo_id, filename, **options):
        assert repo_id == "someone/their-saes"
        if not (tmp_path / filename).exists():
            raise EntryNotFoundError(f"no {filename} in {repo_id}")
        return str(tmp_path / filename)

    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
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
