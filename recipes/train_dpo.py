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
from _training import adapter, dpo, options, run, texts
from transformers import set_seed


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
    budget: run.Budget, watch: run.Watch | None = None,
) -> list[float]:  # fmt: skip
    """Train, and return the loss of every step."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig

    origin = run.origin_of(model, tokenizer, triples)
    model = run.all_trained(model) if settings.full else model
    rows = texts.preferences(tokenizer, triples, budget.room)
    # TRL would compute blocks again unless it is told not to.
    given: dict[str, Any] = {} if budget.checkpointing else {"gradient_checkpointing": None}
    config = DPOConfig(
        **run.arguments(
            out,
            budget,
            learning_rate=settings.lr,
            beta=settings.beta,
            max_length=budget.tokens,
            **given,
        )
    )
    peft = (
        None
        if settings.full
        else adapter.lora(model, settings.rank, settings.alpha, settings.dropout)
    )
    set_seed(budget.seed)  # an adapter begins at random
    trainer = dpo.IdsDPOTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer, peft_config=peft,
        ref_model=copy.deepcopy(model) if settings.full else None,
    )  # fmt: skip
    told = run.noted(out, settings) | run.noted(out, budget)
    return run.go(trainer, out, told, origin, watch)


@options.command(out=Path("dpo"), epochs=1.0, accumulate=1, max_tokens=1024)
def main(
    given: options.Given,
    lr: Annotated[float, typer.Option(help="learning rate")] = Settings.lr,
    beta: Annotated[float, typer.Option(help="of the loss")] = Settings.beta,
    full: Annotated[bool, typer.Option(help="all weights in place of an adapter")] = False,
) -> None:
    """Train DPO on preference triples."""
    settings = Settings(lr=lr, beta=beta, full=full)
    given.done(
        train(given.model, given.tokenizer, given.triples, given.out, settings, given.budget)
    )


if __name__ == "__main__":
    options.start(main)
