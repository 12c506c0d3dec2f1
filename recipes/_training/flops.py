"""FLOPs of a real training step, counted while it runs, beside what `costs` says of its shapes."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback

from dspa_nn import costs


def _added(_: Any, first: Any, second: Any, *__: Any, **___: Any) -> int:
    return 2 * first[0] * first[1] * second[1]


# TRL adds products in place, which torch's counter does not know.
IN_PLACE = {torch.ops.aten.addmm_: _added}


class StepFlops(TrainerCallback):
    """Counts every optimiser step of a run, forward and backward, and notes the batches' shapes.

    Attention must be "eager": torch's counter does not see the fused one of a CPU.
    """

    def __init__(self) -> None:
        self.flops: list[int] = []
        self.shapes: list[dict[str, tuple[int, ...]]] = []
        self.counter: FlopCounterMode | None = None

    def attach(self, trainer: Any) -> None:
        """Look on while this trainer trains."""
        collate = trainer.data_collator

        def noted(rows: Any) -> Any:
            batch = collate(rows)
            self.shapes.append(
                {
                    name: tuple(own.shape)
                    for name, own in batch.items()
                    if name.endswith("input_ids")
                }
            )
            return batch

        trainer.data_collator = noted
        trainer.add_callback(self)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to count."""
        self.counter = FlopCounterMode(display=False, custom_mapping=IN_PLACE)
        self.counter.__enter__()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Both passes are done."""
        assert self.counter is not None
        self.counter.__exit__(None, None, None)
        self.flops.append(self.counter.get_total_flops())


def predicted(
    recipe: str, config: Any, shapes: dict[str, tuple[int, ...]], *, last_target: int = 0,
    checkpointing: bool = False,
) -> costs.TrainingFlops:  # fmt: skip
    """What `costs` says that one batch of a recipe costs.

    Args:
        recipe: "dpo", "dpo-full", "rahf-1", "rahf-2" or "sft".
        config: of the model. shapes: of the batch. last_target: of "rahf-2".
        checkpointing: whether blocks are computed again.
    """
    options: dict[str, Any] = {"checkpointing": checkpointing}
    if recipe == "rahf-2":
        own = [shapes[f"{name}_input_ids"] for name in ("plain", "good", "bad")]
        lengths = [tokens for _, tokens in own]
        return costs.rahf_second_step(config, own[0][0], lengths, last_target=last_target)
    sequences, tokens = shapes["input_ids"]
    if recipe == "sft":
        return costs.sft_step(config, sequences, tokens, **options)
    if recipe == "rahf-1":
        return costs.rahf_first_step(config, sequences // 2, tokens, **options)
    rank = None if recipe == "dpo-full" else 8
    return costs.dpo_step(config, sequences // 2, tokens, rank=rank, **options)
