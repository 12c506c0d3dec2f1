"""Checkpoints of dictionary_learning: stand-in files of the same layout, encoded independently."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn.errors import SAEError
from dspa_nn.saes import load_sae, read_checkpoint
from tests import sae_zoo as zoo
from tests.sae_zoo import assert_one_sentence, said

WIDTH, D_MODEL = 24, 8
# The config.json of adamkarvonen's Qwen3 SAEs, as far as its keys go; sizes are ours.
TRAINER: dict[str, Any] = {
    "trainer_class": "BatchTopKTrainer",
    "dict_class": "BatchTopKSAE",
    "lr": 5e-05,
    "steps": 244140,
    "auxk_alpha": 0.03125,
    "warmup_steps": 1000,
    "decay_start": 195312,
    "threshold_beta": 0.999,
    "threshold_start_step": 1000,
    "top_k_aux": 2048,
    "seed": 0,
    "activation_dim": D_MODEL,
    "dict_size": WIDTH,
    "k": 5,
    "device": "cuda:0",
    "layer": 9,
    "lm_name": "Qwen/Qwen3-8B",
    "wandb_name": "BatchTopKTrainer-Qwen/Qwen3-8B-resid_post_layer_9_trainer_2",
    "submodule_name": "resid_post_layer_9",
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def linear() -> dict[str, torch.Tensor]:
    """Weights as two `nn.Linear`s hold them."""
    return {
        "b_dec": normal(D_MODEL),
        "encoder.weight": normal(WIDTH, D_MODEL),
        "encoder.bias": normal(WIDTH, seed=1),
        "decoder.weight": normal(D_MODEL, WIDTH, seed=2),
    }


def plain() -> dict[str, torch.Tensor]:
    return {
        "W_enc": normal(D_MODEL, WIDTH),
        "W_dec": normal(WIDTH, D_MODEL, seed=2),
        "b_enc": normal(WIDTH, seed=1),
        "b_dec": normal(D_MODEL),
    }


def batchtopk(threshold: float = 1.25) -> dict[str, torch.Tensor]:
    return {"k": torch.tensor(5), "threshold": torch.tensor(threshold), **linear()}


def checkpoint(folder: Path, weights: Any, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"trainer": TRAINER | changes, "buffer": {"ctx_len": 2048, "io": "out"}}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "ae.pt")
    return folder


@pytest.mark.parametrize("threshold", [1.25, 0.0, -1.0])
def test_batchtopk_encodes_with_its_threshold_as_dictionary_learning_does(
    tmp_path: Path, threshold: float
) -> None:
    weights = batchtopk(threshold)
    loaded = load_sae(checkpoint(tmp_path / "trainer_2", weights))
    assert (loaded.id, loaded.layer, loaded.model_name) == ("trainer_2", 9, "Qwen3-8B")
    assert (loaded.width, loaded.encoder.dtype) == (WIDTH, torch.float32)
    hidden = 2 * normal(7, D_MODEL, seed=5)
    pre = (hidden - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"]
    active = pre.relu() * (pre.relu() > threshold)
    torch.testing.assert_close(loaded.encoder.encode(hidden)[0], active)
    assert 0 < (active > 0).sum() < active.numel()
    assert torch.equal(loaded.decoder, weights["decoder.weight"].T)


@pytest.mark.parametrize(
    ("named", "weights"),
    [
        ("BatchTopKSAE", batchtopk()),
        ("MatryoshkaBatchTopKSAE", plain() | {"threshold": torch.tensor(0.7)}),
        ("AutoEncoderTopK", linear() | {"k": torch.tensor(5), "threshold": torch.tensor(0.7)}),
        ("AutoEncoder", {**linear(), "bias": normal(D_MODEL)}),
        ("JumpReluAutoEncoder", plain() | {"threshold": normal(WIDTH, seed=3).abs()}),
        (
            "GatedAutoEncoder",
            {
                "decoder_bias": normal(D_MODEL),
                "encoder.weight": normal(WIDTH, D_MODEL),
                "decoder.weight": normal(D_MODEL, WIDTH, seed=2),
                "r_mag": normal(WIDTH, seed=1),
                "gate_bias": normal(WIDTH, seed=4),
                "mag_bias": normal(WIDTH, seed=6),
            },
        ),
    ],
)
def test_every_class_is_what_saelens_own_loader_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, weights: Any
) -> None:
    import sae_lens
    from sae_lens.loading import pretrained_sae_loaders as loaders

    def here(repo_id: str, filename: str, **_: Any) -> str:
        return str(tmp_path / filename)

    monkeypatch.setattr(loaders, "hf_hub_download", here)
    checkpoint(tmp_path / "it", weights, dict_class=named)
    theirs: Any = sae_lens.SAE.from_pretrained(
        "a/b", "it", converter=loaders.dictionary_learning_sae_huggingface_loader_1
    )
    mine = load_sae(theirs), load_sae(tmp_path / "it")
    hidden = 2 * normal(6, D_MODEL, seed=5)
    assert torch.equal(*(sae.encoder.encode(hidden)[0] for sae in mine))
    assert torch.equal(*(sae.decoder for sae in mine))
    assert len({sae.encoder.rule["architecture"] for sae in mine}) == 1


def test_what_was_converted_is_saved_as_saelens_saves_and_loads_the_same(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "there", batchtopk())
    read_checkpoint(source).save_model(tmp_path / "here")
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {
        "cfg.json",
        "sae_weights.safetensors",
    }
    assert load_sae(tmp_path / "here").sha256 == load_sae(source).sha256


class Harmful:
    """What a pickle could run when it is read."""

    def __reduce__(self) -> Any:
        return print, ("ran",)


def test_nothing_but_tensors_is_unpickled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "x", batchtopk() | {"more": Harmful()})
    with pytest.raises(SAEError) as error:
        load_sae(folder)
    assert said(error).startswith(f"ae.pt of the checkpoint in {str(folder)!r} cannot be read")
    assert_one_sentence(said(error))
    assert "ran" not in capsys.readouterr().out


def test_bad_checkpoints_are_one_sentence(tmp_path: Path) -> None:
    cut = checkpoint(tmp_path / "cut", batchtopk())
    (cut / "ae.pt").write_bytes((cut / "ae.pt").read_bytes()[:200])
    lacking = batchtopk()
    del lacking["threshold"]
    half = batchtopk()
    half["encoder.weight"] = half["encoder.weight"][:12]
    config = checkpoint(tmp_path / "config", batchtopk())
    trainer = {key: value for key, value in TRAINER.items() if key != "layer"}
    (config / "config.json").write_text(json.dumps({"trainer": trainer}))
    lists = checkpoint(tmp_path / "lists", batchtopk())
    (lists / "config.json").write_text(json.dumps({"trainer": ["BatchTopKSAE"]}))
    for folder, text in (
        (checkpoint(tmp_path / "d", batchtopk() | {"b_dec": normal(3)}), r"b_dec of \(3,\) where"),
        (
            checkpoint(tmp_path / "e", batchtopk() | {"threshold": normal(1)}),
            r"threshold of \(1,\) where",
        ),
        (
            checkpoint(tmp_path / "f", batchtopk() | {"encoder.weight": normal(5)}),
            r"an encoder of \(5,\)",
        ),
        (checkpoint(tmp_path / "g", batchtopk(), layer="nine"), r"no whole number \(.*'nine'\)"),
        (lists, r"config\.json of .* cannot be read"),
        (cut, r"ae\.pt of .* cannot be read"),
        (checkpoint(tmp_path / "a", batchtopk(), dict_class="CrossCoder"), r"class 'CrossCoder'"),
        (checkpoint(tmp_path / "b", lacking), r"has no threshold, only k, b_dec, encoder\.weight"),
        (checkpoint(tmp_path / "c", half), r"holds an encoder of \(8, 12\) and its config says"),
        (config, r"lacks 'layer' of its trainer"),
    ):
        with pytest.raises(SAEError, match=text) as error:
            load_sae(folder)
        assert_one_sentence(said(error))


def test_it_is_of_the_zoos_kind(tmp_path: Path) -> None:
    # What a preset's path names: the folder of the checkpoint below the repository.
    loaded = load_sae(checkpoint(tmp_path / "trainer_2", batchtopk()))
    assert loaded.encoder.rule["architecture"] in zoo.architectures()
