"""Train DPO on preference triples, with TRL: an adapter (LoRA), or all weights.

    python recipes/train_dpo.py TRIPLES --out dpo
    python recipes/train_dpo.py TRIPLES --out dpo-full --full --steps 60

The defaults are the paper's: one epoch, learning rate 5e-6, beta 0.1, AdamW. It writes the
adapter (or the model), `loss.jsonl` and checkpoints to `--out`, and goes on from the last
checkpoint when it is run again. On one CPU thread with the embedded model, batches of 4 and 256
tokens: half a minute a step with an adapter, up to a minute with all weights. Needs `pip install
'dspa-nn[train]'`.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from _training import adapter, dpo, run, texts


@dataclass(frozen=True)
class Settings:
    """The paper's, and what it leaves open: batch, tokens, and the shape of an adapter."""

    lr: float = 5e-6
    beta: float = 0.1
    full: bool = False
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05


def train(
    model: Any, tokenizer: Any, triples: list[Any], out: Path, settings: Settings,
    budget: run.Budget,
) -> list[float]:  # fmt: skip
    """Train, and return the loss of every step."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig

    origin = run.origin_of(model, tokenizer, triples)
    rows = texts.preferences(tokenizer, triples, budget.tokens)
    config = DPOConfig(
        **run.arguments(
            out,
            budget,
            learning_rate=settings.lr,
            beta=settings.beta,
            max_length=budget.tokens,
            gradient_checkpointing=None,
        )
    )
    peft = (
        None
        if settings.full
        else adapter.lora(model, settings.rank, settings.alpha, settings.dropout)
    )
    trainer = dpo.IdsDPOTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer, peft_config=peft,
        ref_model=copy.deepcopy(model) if settings.full else None,
    )  # fmt: skip
    told = run.noted(out, settings) | run.noted(out, budget)
    return run.go(trainer, out, told, origin)


def main(
    source: Annotated[str, typer.Argument(help="triples: what load_triples takes")],
    out: Annotated[Path, typer.Option(help="receives the adapter or model")] = Path("dpo"),
    model: Annotated[str | None, typer.Option(help="hub id or folder; the embedded one")] = None,
    triples: Annotated[int | None, typer.Option(help="how many; all")] = None,
    start: Annotated[int, typer.Option(help="the first row that is taken")] = 0,
    steps: Annotated[int | None, typer.Option(help="optimiser steps in place of epochs")] = None,
    epochs: float = 1.0,
    batch: int = 4,
    accumulate: int = 1,
    max_tokens: int = 1024,
    lr: float = Settings.lr,
    beta: float = Settings.beta,
    full: Annotated[bool, typer.Option(help="all weights in place of an adapter")] = False,
    seed: int = 0,
) -> None:
    """Train DPO on preference triples."""
    loaded, tokenizer = run.load(model)
    listed = run.take(source, triples, start)
    budget = run.Budget(epochs, steps, batch, accumulate, max_tokens, seed=seed)
    settings = Settings(lr=lr, beta=beta, full=full)
    losses = train(loaded, tokenizer, listed, out, settings, budget)
    print(f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}; saved to {out}")


if __name__ == "__main__":
    typer.run(main)
