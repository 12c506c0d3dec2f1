"""Count a real step of every training recipe, beside what `dspa_nn.costs` says of its shapes.

    python recipes/training_flops.py TRIPLES --triples 8 --max-tokens 80 --out training_flops.json

One step each, on the embedded model by default, with torch's counter. A minute or two on one
thread at 80 tokens; full weights need 8 GB. Needs `pip install 'dspa-nn[train]'`.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import train_dpo
import train_rahf
import train_sft
import typer
from _training import flops, options, rahf, run

RECIPES = ("dpo", "dpo-full", "rahf-1", "rahf-2", "sft")


def counted(
    recipe: str, load: Callable[[], tuple[Any, Any]], triples: list[Any], budget: run.Budget
) -> dict[str, Any]:
    """FLOPs of the first step of a recipe: counted, said, and the shapes of its batch."""
    watch = flops.StepFlops()
    model, tokenizer = load()
    model.set_attn_implementation("eager")  # the fused one of a CPU is not counted
    config, layers = model.config, rahf.default_targets(model.config.num_hidden_layers)
    with tempfile.TemporaryDirectory() as folder:
        what = (model, tokenizer, triples, Path(folder))
        if recipe.startswith("dpo"):
            full = recipe == "dpo-full"
            train_dpo.train(*what, train_dpo.Settings(full=full), budget, watch)
        elif recipe == "rahf-1":
            train_rahf.train_step_1(*what, rahf.Step1(), budget, watch)
        elif recipe == "rahf-2":
            train_rahf.train_step_2(*what, rahf.Step2(), budget, layers, watch)
        else:
            train_sft.train(*what, train_sft.Settings(), budget, watch)
    said = flops.predicted(
        recipe, config, watch.shapes[0], last_target=max(layers),
        checkpointing=budget.checkpointing,
    )  # fmt: skip
    return {
        "recipe": said.method,
        "shapes": {name: list(shape) for name, shape in watch.shapes[0].items()},
        "said": said.total,
        "counted": watch.flops[0],
        "ratio": watch.flops[0] / said.total,
    }


@options.command(out=Path("training_flops.json"), epochs=1.0, accumulate=1, max_tokens=128)
def main(
    given: options.Given,
    only: Annotated[str, typer.Option(help="recipes, as in dpo,sft")] = ",".join(RECIPES),
) -> None:
    """Count a real step of every training recipe."""
    budget = replace(given.budget, steps=1, accumulate=1, save_every=10**6)
    name = None if given.model.config._name_or_path == "" else given.model.config._name_or_path
    rows = []
    for recipe in only.split(","):
        rows.append(counted(recipe, lambda: run.load(name), given.triples, budget))
        print(json.dumps(rows[-1]), flush=True)
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    options.start(main)
