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
from _training import options, run, sft, texts


@dataclass(frozen=True)
class Settings:
    """How the base model is fine-tuned."""

    lr: float = 2e-5
    warm_up: float = 0.1


def train(
    model: Any, tokenizer: Any, triples: list[Any], out: Path, settings: Settings,
    budget: run.Budget, watch: run.Watch | None = None,
) -> list[float]:  # fmt: skip
    """Train, and return the loss of every step."""
    origin = run.origin_of(model, tokenizer, triples)
    trainer = sft.SFTTrainer(
        run.all_trained(model), run.training_arguments(
            out, budget, learning_rate=settings.lr, warmup_steps=settings.warm_up
        ),
        train_dataset=texts.demonstrations(tokenizer, triples, budget.room), tokenizer=tokenizer,
    )  # fmt: skip
    return run.go(trainer, out, run.noted(out, settings) | run.noted(out, budget), origin, watch)


@options.command(out=Path("sft"), epochs=1.0, accumulate=16, max_tokens=768)
def main(
    given: options.Given,
    lr: Annotated[float, typer.Option(help="learning rate")] = Settings.lr,
) -> None:
    """Fine-tune a model on chosen responses."""
    settings = Settings(lr=lr)
    given.done(
        train(given.model, given.tokenizer, given.triples, given.out, settings, given.budget)
    )


if __name__ == "__main__":
    options.start(main)
