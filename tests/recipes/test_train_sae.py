"""A published SAE that is trained further: what it begins as, learns, and is stored as."""

import importlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn import DSPAError, SAEError
from dspa_nn.models import read_facts
from dspa_nn.saes import load_sae
from tests import tiny
from tests.conftest import REPOSITORY

LAYER = 1


@pytest.fixture(scope="module")
def recipe() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "recipes"))
        yield importlib.import_module("train_sae")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, path = random.Random(0), tmp_path_factory.mktemp("texts") / "triples.jsonl"
    rows = [
        {key: " ".join(draw.choices(tiny.WORDS, k=8)) for key in ("prompt", "chosen", "rejected")}
        for _ in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def published(folder: Path, kind: str) -> Any:
    """An SAE of the tiny model's layer 1 in a folder, as SAELens saves it."""
    sae, _ = tiny.saes(tiny.model("llama"), kind, layer_in=LAYER)
    sae.save_model(folder)
    return sae


def stream(seed: int, tokens: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, tiny.HIDDEN)).astype(np.float16) * 3


@pytest.mark.parametrize("kind", ["jumprelu", "standard", "topk"])
def test_it_begins_as_the_published_one_and_its_loss_falls(
    recipe: Any, kind: str, tmp_path: Path
) -> None:
    finetune = recipe.finetune
    published(tmp_path / "in", kind)
    sae = finetune.load(str(tmp_path / "in"))
    x, scale = torch.from_numpy(stream(1, 64)).float(), 0.3
    begun = finetune.trainable(sae, scale, finetune.Settings())
    with torch.no_grad():
        torch.testing.assert_close(begun.encode(x * scale), sae.encode(x) * scale)
        torch.testing.assert_close(begun(x * scale), sae(x) * scale)
    # One batch, in another order at every step.
    settings = finetune.Settings(steps=3, batch=64, lr=1e-2, warm_up=0, decay=0)
    trained = finetune.train(sae, stream(1, 64), settings, tmp_path / "work")
    lines = (tmp_path / "work" / "loss.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    finetune.store(trained, tmp_path / "out", {"texts": ["made up"]}, settings)
    stored = load_sae(tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(stored.encoder.encode(x)[0], trained.encode(x))
    before, after = (json.loads((tmp_path / own / "cfg.json").read_text()) for own in ("in", "out"))
    assert after["metadata"].pop("trained_further")["texts"] == ["made up"]
    assert before == after


def test_a_run_that_was_cut_ends_where_the_whole_one_does(recipe: Any, tmp_path: Path) -> None:
    finetune = recipe.finetune
    settings = finetune.Settings(steps=6, batch=32, lr=1e-3, checkpoints=2)
    published(tmp_path / "in", "jumprelu")

    def run(work: str) -> Any:
        return finetune.train(
            finetune.load(str(tmp_path / "in")), stream(2, 100), settings, tmp_path / work
        )

    whole = run("whole")
    kept = min((tmp_path / "whole").glob("[0-9]*"), key=lambda path: int(path.name))
    (tmp_path / "cut").mkdir()
    kept.rename(tmp_path / "cut" / kept.name)
    (tmp_path / "cut" / str(int(kept.name) + 1)).mkdir()  # cut off before it was written
    log = (tmp_path / "whole" / "loss.jsonl").read_text().splitlines()
    (tmp_path / "cut" / "loss.jsonl").write_text("".join(f"{line}\n" for line in log[:5]))
    resumed = run("cut")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    again = (tmp_path / "cut" / "loss.jsonl").read_text().splitlines()
    both = [[json.loads(line)["loss"] for line in lines] for lines in (log, again)]
    assert both[0] == both[1]


def test_the_recipe_runs_to_the_end_and_refuses_other_settings(
    recipe: Any, texts: Path, tmp_path: Path
) -> None:
    model = tmp_path / "tiny-llama"
    tiny.model("llama").save_pretrained(model)
    tiny.tokenizer("markup").save_pretrained(model)
    published(tmp_path / "in", "topk")
    given: dict[str, Any] = {
        "sources": [str(texts)], "sae": str(tmp_path / "in"), "out": tmp_path / "out",
        "work": tmp_path / "work", "model": str(model), "tokens": 400, "context": 64, "steps": 2,
        "batch": 64, "seed": 0,
    }  # fmt: skip
    recipe.main(**given)
    stored = load_sae(tmp_path / "out")
    assert (stored.layer, stored.d_model) == (LAYER, tiny.HIDDEN)
    assert stored.sha256 != load_sae(tmp_path / "in").sha256
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told["origin"]["texts"] == ["triples.jsonl"]
    with pytest.raises(DSPAError, match=r"\(lr was 5e-05 and is 0.1\); give another --out"):
        recipe.main(**given, lr=0.1)
    with pytest.raises(SAEError, match="tokens came, and a step takes 4096: give more text"):
        recipe.main(**given | {"batch": 4096, "out": tmp_path / "other"})


def test_what_cannot_be_trained_further_is_refused(recipe: Any, tmp_path: Path) -> None:
    published(tmp_path / "gated", "gated")
    with pytest.raises(SAEError, match=r"of type 'gated'.*jumprelu, standard, topk"):
        recipe.finetune.load(str(tmp_path / "gated"))
    wide = tiny.model("llama", hidden_size=64)
    sae, facts = published(tmp_path / "topk", "topk"), read_facts(wide, tiny.tokenizer("markup"))
    with pytest.raises(SAEError, match=r"reads vectors of width 32, but the model.* width 64"):
        recipe.finetune.check(sae, "sae", facts)
