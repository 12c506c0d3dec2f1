"""The recipe that trains the embedded SAEs, on a tiny model and made-up text."""

import gzip
import importlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.conftest import REPOSITORY

LAYER = 1


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recipe as a module, found as it is when it is run as a script."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    return importlib.import_module("train_embedded_saes")


def part(recipe: Any, name: str) -> Any:
    return importlib.import_module(f"_sae_training.{name}")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A tiny model with its tokenizer, triples, and gzipped dialogues, all of random words."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(draw.choices(tiny.WORDS, k=count))

    triples, dialogues, model = (tmp_path / n for n in ("triples.jsonl", "hh.jsonl.gz", "model"))
    rows = [{"prompt": words(6), "chosen": words(9), "rejected": words(8)} for _ in range(60)]
    triples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(dialogues, "wt") as file:
        for _ in range(20):
            said = f"\n\nHuman: {words(6)}\n\nAssistant: {words(9)}"
            file.write(json.dumps({"chosen": said, "rejected": said}) + "\n")
    tiny.model("llama").save_pretrained(model)
    tiny.tokenizer("markup").save_pretrained(model)
    return {"triples": triples, "dialogues": dialogues, "model": model}


def run(recipe: Any, files: dict[str, Path], out: Path, **changes: Any) -> None:
    settings: dict[str, Any] = {
        "sources": [f"{files['triples']}@0:50", str(files["dialogues"])],
        "held_out": [f"{files['triples']}@50:"],
        "layers": str(LAYER),
        "out": out,
        "work": out.parent / "work",
        "tokens": 6000,
        "width": 64,
        "k": 4,
        "epochs": 12.0,
        "batch": 128,
        "lr": 3e-3,
        "context": 96,
        "model": str(files["model"]),
        "model_name": "nobody/tiny-llama",
        "held_out_tokens": 1000,
        "loss_tokens": 300,
    }
    recipe.main(**(settings | changes))


@pytest.mark.slow
def test_the_recipe_runs_end_to_end_and_saelens_loads_what_it_stores(
    recipe: Any, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sae_lens import SAE
    from safetensors.torch import load_file

    out = tmp_path / "saes"
    notes = tmp_path / "notes.md"
    notes.write_text("## What was tried\n\nNothing else.\n")
    run(recipe, files, out, notes=notes)
    folder = out / f"blocks.{LAYER}.hook_resid_post"

    stored = load_file(folder / "sae_weights.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    sae = SAE.load_from_disk(folder)
    assert type(sae).__name__ == "TopKSAE"
    assert sae.W_enc.dtype == torch.float32
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.k) == (tiny.HIDDEN, 64, 4)
    assert sae.cfg.normalize_activations == "none"
    assert sae.cfg.metadata.hook_name == f"blocks.{LAYER}.hook_resid_post"
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(64), atol=2e-3, rtol=0)

    card = (out / "README.md").read_text()
    assert "triples.jsonl@0:50, hh.jsonl.gz" in card
    assert "base_model: nobody/tiny-llama" in card
    assert "Nothing else." in card
    assert str(tmp_path) not in card

    # It explains most of what a mean would leave, on rows that it never saw.
    capsys.readouterr()
    run(recipe, files, out, evaluate_only=out)
    table = capsys.readouterr().out
    fvu = next(line for line in table.splitlines() if "FVU, all text" in line)
    assert float(fvu.split("|")[2]) < 0.5
    assert "L0, latents active on a token | 4.0" in table


def test_a_run_that_was_interrupted_ends_where_the_whole_one_does(
    recipe: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    settings = part(recipe, "training").Settings(width=64, k=4, epochs=3, batch=64, checkpoints=2)
    draw = np.random.default_rng(0)
    activations = [draw.normal(size=(640, 16)).astype(np.float16)]
    training = part(recipe, "training")
    whole = training.train(activations, settings, {}, tmp_path / "whole")
    checkpoints = sorted((tmp_path / "whole").iterdir(), key=lambda path: int(path.name))
    assert len(checkpoints) == 2
    (tmp_path / "half").mkdir()
    checkpoints[0].rename(tmp_path / "half" / checkpoints[0].name)
    resumed = training.train(activations, settings, {}, tmp_path / "half")
    for name, sae in (("whole", whole), ("resumed", resumed)):
        training.store(sae, tmp_path / name)
    first, second = (
        load_file(tmp_path / name / "sae_weights.safetensors") for name in ("whole", "resumed")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dead", [0, 5, 40])
@pytest.mark.parametrize("rescale", [True, False])
def test_the_sparse_step_has_saelens_own_loss_and_gradient(
    recipe: Any, dead: int, rescale: bool
) -> None:
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    torch.manual_seed(0)
    x = torch.randn(50, 16)
    mask = torch.arange(64) < dead
    config = {"d_in": 16, "d_sae": 64, "k": 4, "rescale_acts_by_decoder_norm": rescale}
    ours = part(recipe, "sparse").SparseTopKTrainingSAE(TopKTrainingSAEConfig(**config))
    torch.nn.init.normal_(ours.b_enc)
    torch.nn.init.normal_(ours.b_dec)
    ours.W_dec.data *= 0.5 + torch.rand(64, 1)
    theirs = TopKTrainingSAE(TopKTrainingSAEConfig(**config))
    theirs.load_state_dict(ours.state_dict())
    step = TrainStepInput(x, {}, mask, 0, False)
    outputs = [sae.training_forward_pass(step) for sae in (ours, theirs)]
    for output in outputs:
        output.loss.backward()
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss)
    torch.testing.assert_close(outputs[0].feature_acts, outputs[1].feature_acts)
    for (name, left), (_, right) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        torch.testing.assert_close(left.grad, right.grad, msg=name)


def test_dead_latents_come_alive_and_the_others_stay_as_they_are(
    recipe: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    training, revive = part(recipe, "training"), part(recipe, "revive")
    draw = np.random.default_rng(0)
    features = draw.normal(size=(40, 16))
    picks = draw.random(size=(4000, 40)) * (draw.random(size=(4000, 40)) < 0.08)
    stored = (picks @ features).astype(np.float16)
    settings = training.Settings(width=48, k=4, epochs=6, batch=128, checkpoints=0)
    first, second = tmp_path / "first", tmp_path / "second"
    training.store(training.train([stored], settings, {}, tmp_path / "a"), first)
    weights = load_file(first / "sae_weights.safetensors")
    weights["b_enc"][:5] = -1000.0
    save_file(weights, first / "sae_weights.safetensors")

    revival = revive.plan(first, stored, 0)
    assert set(range(5)) <= set(revival.which.tolist())
    sae = training.train([stored], settings, {}, tmp_path / "b", first, revival)
    training.store(sae, second)
    after = load_file(second / "sae_weights.safetensors")
    kept = torch.ones(48, dtype=torch.bool)
    kept[revival.which] = False
    for name in ("W_dec", "b_enc"):
        torch.testing.assert_close(after[name][kept], weights[name][kept], atol=1e-3, rtol=2e-3)
    torch.testing.assert_close(after["b_dec"], weights["b_dec"], atol=1e-3, rtol=2e-3)
    still = revive.plan(second, stored, 0).which
    assert len(still) < len(revival.which) / 2


def test_a_pass_that_was_interrupted_goes_on_where_it_stopped(recipe: Any, tmp_path: Path) -> None:
    activations = part(recipe, "activations")
    model = tiny.model("llama").model
    draw = random.Random(0)
    rows = [[draw.randrange(6, 90) for _ in range(draw.randrange(4, 90))] for _ in range(300)]
    layers = [0, 2]
    for folder, stops in (("whole", [9000]), ("halves", [4000, 9000])):
        for stop in stops:
            activations.collect(model, rows, layers, tmp_path / folder, tokens=stop, pad=0)
    for layer in layers:
        whole, halves = (activations.load(tmp_path / name, layer) for name in ("whole", "halves"))
        assert len(whole) >= 9000
        assert np.array_equal(whole, halves)
    assert len(model.layers) == tiny.LAYERS


def test_rows_layouts_and_openings(recipe: Any, tmp_path: Path) -> None:
    texts = part(recipe, "texts")
    path = tmp_path / "mixed.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": "sun", "chosen": "moon", "rejected": "red"},
        {"chosen": "\n\nHuman: cat \n\nAssistant: dog", "rejected": "x"},
        {"text": "one two"},
        {"messages": [{"role": "user", "content": "oak"}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = texts.documents(texts.Source.parse(str(path)))
    assert [len(document) for document in found] == [2, 2, 2, 7, 1]
    assert found[2] == [
        {"role": "user", "content": "cat"},
        {"role": "assistant", "content": "dog"},
    ]
    assert texts.documents(texts.Source.parse(f"{path}@-1:")) == [rows[3]["messages"]]
    assert texts.without_openings_of(found, found[:1]) == found[2:]
    path.write_text(json.dumps({"question": "sun"}) + "\n")
    with pytest.raises(texts.TripleError, match=r"has the keys \['question'\], and one of"):
        texts.documents(texts.Source.parse(str(path)))
