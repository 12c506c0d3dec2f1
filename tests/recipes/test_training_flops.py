"""FLOPs of the training recipes: `costs` against torch's count of real steps."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dspa_nn.costs import sae_step
from tests import eval_zoo, tiny
from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.slow,  # TRL and real steps
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]
LAYERS = [1, 2]


@pytest.fixture(scope="module")
def recipes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "recipes"))
        names = ("_training.rahf", "_training.run", "_training.flops", "_sae_training.finetune",
                 "train_dpo", "train_rahf", "train_sft")  # fmt: skip
        yield {name.rpartition(".")[2]: importlib.import_module(name) for name in names}


def run(recipes: Any, recipe: str, out: Path, **changes: Any) -> tuple[Any, Any]:
    """Two real steps; what counted them, and the model's config."""
    watch = recipes["flops"].StepFlops()
    model = tiny.model("llama", max_position_embeddings=2048, attn_implementation="eager")
    given = {"epochs": 1.0, "steps": 2, "batch": 2, "tokens": 2000, **changes}
    what = (model, tiny.tokenizer("markup"), eval_zoo.triples(4), out)
    budget, rahf = recipes["run"].Budget(**given), recipes["rahf"]
    config = model.config
    if recipe.startswith("dpo"):
        settings = recipes["train_dpo"].Settings(full=recipe == "dpo-full")
        recipes["train_dpo"].train(*what, settings, budget, watch)
    elif recipe == "sft":
        recipes["train_sft"].train(*what, recipes["train_sft"].Settings(), budget, watch)
    elif recipe == "rahf-1":
        recipes["train_rahf"].train_step_1(*what, rahf.Step1(), budget, watch)
    else:
        recipes["train_rahf"].train_step_2(*what, rahf.Step2(), budget, LAYERS, watch)
    return watch, config


@pytest.mark.parametrize("recipe", ["dpo", "dpo-full", "rahf-1", "rahf-2", "sft"])
def test_a_real_step_costs_what_costs_says(recipes: Any, recipe: str, tmp_path: Path) -> None:
    watch, config = run(recipes, recipe, tmp_path)
    assert len(watch.flops) == 2
    for counted, shapes in zip(watch.flops, watch.shapes, strict=False):
        said = recipes["flops"].predicted(recipe, config, shapes, last_target=max(LAYERS))
        assert counted == pytest.approx(said.total, rel=0.05)


@pytest.mark.parametrize("recipe", ["dpo", "sft"])
def test_blocks_that_are_computed_again_are_counted(
    recipes: Any, recipe: str, tmp_path: Path
) -> None:
    watch, config = run(recipes, recipe, tmp_path, checkpointing=True)
    shapes = watch.shapes[0]
    plain, again = (
        recipes["flops"].predicted(recipe, config, shapes, checkpointing=own).total
        for own in (False, True)
    )
    assert watch.flops[0] == pytest.approx(again, rel=0.05)
    assert again > 1.1 * plain


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk"])
def test_a_step_of_an_sae_costs_what_costs_says(recipes: Any, kind: str) -> None:
    from sae_lens.saes.sae import TrainStepInput

    finetune = recipes["finetune"]
    sae, _ = tiny.saes(tiny.model("llama"), kind)
    training = finetune.trainable(sae, 1.0, finetune.Settings())
    batch = torch.randn(50, tiny.HIDDEN)
    with FlopCounterMode(display=False) as counter:
        step = TrainStepInput(
            sae_in=batch, dead_neuron_mask=None, coefficients={"l0": 1.0, "l1": 1.0},
            n_training_steps=0, is_logging_step=False,
        )  # fmt: skip
        training.training_forward_pass(step).loss.backward()
    said = sae_step(
        tiny.HIDDEN, sae.cfg.d_sae, 50, selected=kind == "topk",
        centred=bool(sae.cfg.apply_b_dec_to_input),
    )  # fmt: skip
    assert counter.get_total_flops() == pytest.approx(said, rel=0.05)
