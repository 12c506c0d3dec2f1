"""Fine-tune a base model on the chosen responses of a data set such as HH-RLHF (SFT).

    python recipes/train_sft.py hh-rlhf.jsonl --out sft

Dialogues are written as the paper's runs have them, `Human: ...` and `Assistant: ...`
(docs/method.md 6), and the loss is that of the chosen response and its end. The paper gives no
further setting; learning rate 2e-5, warm-up 0.1, one epoch and batches of 64 are ours, after its
step 1 of RAHF-SCIT. It writes the model, `loss.jsonl` and checkpoints to `--out`, and goes on
from the last checkpoint. Needs `pip install 'dspa-nn[train]'`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from _training import run, sft, texts


@dataclass(frozen=True)
class Settings:
    """How the base model is fine-tuned."""

    lr: float = 2e-5
    warm_up: float = 0.1


def train(
    model: Any, tokenizer: Any, triples: list[Any], out: Path, settings: Settings,
    budget: run.Budget,
) -> list[float]:  # fmt: skip
    """Train, and return the loss of every step."""
    origin = run.origin_of(model, tokenizer, triples)
    trainer = sft.SFTTrainer(
        model, run.training_arguments(
            out, budget, learning_rate=settings.lr, warmup_steps=settings.warm_up
        ),
        train_dataset=texts.demonstrations(tokenizer, triples, budget.tokens), tokenizer=tokenizer,
    )  # fmt: skip
    return run.go(trainer, out, run.noted(out, settings) | run.noted(out, budget), origin)


def main(
    source: Annotated[str, typer.Argument(help="triples: what load_triples takes")],
    out: Annotated[Path, typer.Option(help="receives the model")] = Path("sft"),
    model: Annotated[str | None, typer.Option(help="hub id or folder; the embedded one")] = None,
    triples: Annotated[int | None, typer.Option(help="how many; all")] = None,
    start: Annotated[int, typer.Option(help="the first row that is taken")] = 0,
    steps: Annotated[int | None, typer.Option(help="optimiser steps in place of epochs")] = None,
    epochs: float = 1.0,
    batch: int = 4,
    accumulate: int = 16,
    max_tokens: int = 768,
    lr: float = Settings.lr,
    seed: int = 0,
) -> None:
    """Fine-tune a model on chosen responses."""
    loaded, tokenizer = run.load(model)
    listed = run.take(source, triples, start)
    budget = run.Budget(epochs, steps, batch, accumulate, max_tokens, seed=seed)
    losses = train(loaded, tokenizer, listed, out, Settings(lr=lr), budget)
    print(f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}; saved to {out}")


if __name__ == "__main__":
    typer.run(main)
