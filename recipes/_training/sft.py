"""Supervised fine-tuning: the loss of the response's tokens alone."""

from typing import Any

from torch import Tensor
from transformers import Trainer

from .pad import batch, token_log_probs


class SFTTrainer(Trainer):
    """transformers' trainer on `texts.Ids`."""

    def __init__(self, *args: Any, tokenizer: Any, **options: Any) -> None:
        pad = tokenizer.pad_token_id
        super().__init__(
            *args,
            processing_class=tokenizer,
            data_collator=lambda rows: batch(rows, pad, "right"),
            **options,
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Mean negative log-likelihood over the responses' tokens of the batch."""
        response = inputs.pop("response")[:, 1:]
        outputs = model(**inputs, use_cache=False)
        log_probs = token_log_probs(outputs.logits, inputs["input_ids"])
        loss = -log_probs[response].mean()
        return (loss, outputs) if return_outputs else loss
