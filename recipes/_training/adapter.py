"""LoRA on a model's linear layers, for the whole of it or for its first blocks."""

from typing import Any

from peft import LoraConfig
from torch import nn


def lora(
    model: nn.Module, rank: int, alpha: int, dropout: float, layers: list[int] | None = None
) -> LoraConfig:
    """A LoRA of all linear layers in the decoder blocks; layers: of these blocks, None for all."""
    given: dict[str, Any] = {} if layers is None else {"layers_to_transform": layers}
    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=linear_names(model),
        task_type="CAUSAL_LM", **given,
    )  # fmt: skip


def linear_names(model: nn.Module) -> list[str]:
    """Names of the linear layers in decoder blocks, such as "q_proj"; the head has no number."""
    names = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(part.isdigit() for part in path.split("."))
    }
    return sorted(names)
