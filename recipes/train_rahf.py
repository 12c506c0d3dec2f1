"""Train RAHF-SCIT on preference triples: step 1 fine-tunes on two instructions, step 2 an adapter.

    python recipes/train_rahf.py TRIPLES --step 1 --out rahf-1
    python recipes/train_rahf.py TRIPLES --step 2 --model rahf-1 --out rahf-2

docs/method.md 8.8 states both losses. The defaults are the paper's: step 1 with learning rate
2e-5, warm-up 0.1, two epochs; step 2 a LoRA (rank 8, alpha 16, dropout 0.05) of the blocks up to
the last target layer, learning rate 3e-4, constant, 450 steps; batches of 64, at most 768 tokens.
`--batch` rows are run at once, and `--accumulate` such batches make a step (4 and 16). It writes
the model or adapter, `loss.jsonl` and checkpoints to `--out`, and goes on from the last
checkpoint; step 2 also writes the whole model to `merged` inside, for `WeightsMethod`. Needs `pip
install 'dspa-nn[train]'`.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from _training import adapter, options, rahf, run, texts
from transformers import set_seed


def train_step_1(
    model: Any, tokenizer: Any, triples: list[Any], out: Path, settings: rahf.Step1,
    budget: run.Budget, watch: run.Watch | None = None,
) -> list[float]:  # fmt: skip
    """Fine-tune on both instructions, and return the loss of every step."""
    origin = run.origin_of(model, tokenizer, triples)
    trainer = rahf.Step1Trainer(
        run.all_trained(model), run.training_arguments(
            out, budget, learning_rate=settings.lr, warmup_steps=settings.warm_up
        ),
        train_dataset=texts.contrasts(tokenizer, triples, budget.room), tokenizer=tokenizer,
        settings=settings,
    )  # fmt: skip
    return run.go(trainer, out, run.noted(out, settings) | run.noted(out, budget), origin, watch)


def train_step_2(
    model: Any, tokenizer: Any, triples: list[Any], out: Path, settings: rahf.Step2,
    budget: run.Budget, layers: list[int] | None = None, watch: run.Watch | None = None,
) -> list[float]:  # fmt: skip
    """Train the adapter of the model of step 1, and return the loss of every step."""
    from peft import get_peft_model

    origin = run.origin_of(model, tokenizer, triples)
    targets = layers or rahf.default_targets(model.config.num_hidden_layers)
    blocks = list(range(max(targets) + 1))
    set_seed(budget.seed)  # an adapter begins at random
    adapted = get_peft_model(
        model, adapter.lora(model, settings.rank, settings.alpha, settings.dropout, blocks)
    )
    trainer = rahf.Step2Trainer(
        adapted, run.training_arguments(
            out, budget, learning_rate=settings.lr, lr_scheduler_type="constant"
        ),
        train_dataset=texts.stimuli(tokenizer, triples, budget.room), tokenizer=tokenizer,
        settings=settings, layers=targets,
    )  # fmt: skip
    told = run.noted(out, settings) | run.noted(out, budget) | {"target_layers": targets}
    losses = run.go(trainer, out, told, origin, watch)
    write_merged(adapted, tokenizer, Path(model.name_or_path), out / "merged")
    return losses


def write_merged(adapted: Any, tokenizer: Any, step_1: Path, out: Path) -> None:
    """Write step 1's model with the adapter in it: what is compared with the model before both."""
    adapted.merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)
    # The whole was trained from the model of step 1, as its run says.
    if (step_1 / "run.json").is_file():
        shutil.copy(step_1 / "run.json", out / "run.json")


@options.command(out=Path("rahf"), epochs=2.0, accumulate=16, max_tokens=768)
def main(
    given: options.Given,
    step: Annotated[int, typer.Option(min=1, max=2, help="1, or 2 with step 1's --model")] = 1,
    targets: Annotated[str, typer.Option(help="step 2: target layers, as in 8,10,12,14")] = "",
    normalise: Annotated[str, typer.Option(help="response or positions (the fork)")] = "response",
    masked: Annotated[str, typer.Option(help="response or padding (the fork)")] = "response",
) -> None:
    """Train one step of RAHF-SCIT on preference triples; step 2 takes 450 steps by default."""
    budget = given.budget
    what = (given.model, given.tokenizer, given.triples, given.out)
    if step == 1:
        chosen: Any = rahf.Step1(normalise=normalise)  # pyright: ignore[reportArgumentType]
        losses = train_step_1(*what, chosen, budget)
    else:
        chosen = rahf.Step2(masked=masked)  # pyright: ignore[reportArgumentType]
        layers = rahf.read_targets(targets, given.model.config.num_hidden_layers)
        budget = replace(budget, steps=budget.steps or 450)
        losses = train_step_2(*what, chosen, budget, layers)
    given.done(losses)


if __name__ == "__main__":
    options.start(main)
