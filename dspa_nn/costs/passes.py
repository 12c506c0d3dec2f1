"""FLOPs of one sequence through a model that is trained: forward, and backward."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dspa_nn.costs.flops import (
    PROBE,
    build,
    coefficients,
    count_forward,
    kind_of,
    text_config,
)
from dspa_nn.errors import DSPAError

LORA_RANK = 8
# Query and value projections, then those that hold the keys' too.
_ADAPTED = ("q_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


@dataclass(frozen=True)
class Trained:
    """Which part of a model is run and trained.

    Example:
        >>> Trained(blocks=2, lm_head=False, rank=8).beside
        'every'

    Attributes:
        blocks: the first decoder blocks, or None for all. lm_head: whether it is run.
        rank: of a LoRA; None where every weight is trained.
        beside: what the LoRA lies beside: "every" linear layer of the blocks, or "qv", queries and
            values alone.
        checkpointing: the backward computes the blocks again in place of keeping what they made.
    """

    blocks: int | None
    lm_head: bool
    rank: int | None = None
    beside: Literal["every", "qv"] = "every"
    checkpointing: bool = False


@dataclass(frozen=True)
class Pass:
    """Forward and backward of a sequence, each `a n + b n^2` in its tokens, as (a, b).

    Example:
        >>> Pass((2, 1), (4, 2)).forward(10), Pass((2, 1), (4, 2)).backward(10)
        (120, 240)
    """

    forwards: tuple[int, int]
    backwards: tuple[int, int]

    def forward(self, n: int) -> int:
        """FLOPs of the forward over a sequence of `n` tokens."""
        return n * (self.forwards[0] + self.forwards[1] * n)

    def backward(self, n: int) -> int:
        """FLOPs of the backward over a sequence of `n` tokens."""
        return n * (self.backwards[0] + self.backwards[1] * n)


def pass_flops(config: Any, trained: Trained) -> Pass:
    """Count forward and backward of a model on its shapes, without weights.

    Example:
        >>> one = pass_flops(model.config, Trained(blocks=None, lm_head=True))
        >>> one.backward(50) == 2 * one.forward(50)
        True

    Raises:
        DSPAError: a model that cannot be counted without data.
    """
    text = text_config(config)
    return _counted(kind_of(text), text.to_json_string(use_diff=False), trained)


@lru_cache(maxsize=32)
def _counted(kind: type, serialized: str, trained: Trained) -> Pass:
    model = build(kind(**json.loads(serialized)), blocks=trained.blocks, lm_head=trained.lm_head)
    if trained.rank is not None:
        add_lora(model, trained.rank, every=trained.beside == "every")
    forward = _quadratic(lambda n: count_forward(model, n))
    if trained.checkpointing:
        # transformers checkpoints in training mode alone. There is nothing random on these shapes.
        model.train()
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": False}
        )
    return Pass(forward, _quadratic(lambda n: count_backward(model, n)))


def _quadratic(count: Callable[[int], int]) -> tuple[int, int]:
    """Return (a, b) with count(n) = a n + b n^2, read off at two lengths and checked at a third."""
    n = PROBE
    a, b = coefficients(count(n), count(2 * n), n)
    if count(3 * n) != 3 * n * (a + 3 * n * b):
        raise DSPAError(
            "training does not cost a fixed number of FLOPs per token and pair of tokens, so it "
            "cannot be predicted from lengths: count it with torch.utils.flop_counter"
        )
    return a, b


def count_backward(model: Any, tokens: int) -> int:
    """FLOPs of the backward pass alone over one sequence of `tokens`, as torch counts.

    Example:
        >>> count_backward(build(model.config, lm_head=True), 64)
        12894208

    What gradient checkpointing computes again is in it, where the model has that switched on.
    """
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.zeros(1, tokens, dtype=torch.int64, device=model.device)
    positions = torch.arange(tokens, device=ids.device)[None]
    with torch.enable_grad():
        out = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            position_ids=positions,
            use_cache=False,
        )
        with FlopCounterMode(display=False) as counter:
            out[0].sum().backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def add_lora(model: Any, rank: int = LORA_RANK, *, every: bool = False) -> None:
    """Freeze a model and put a low-rank term beside its query and value projections.

    Example:
        >>> add_lora(build(model.config, blocks=2))

    Where queries, keys and values share one projection, the term lies beside that.

    Args:
        model: with or without weights. rank: of the term.
        every: beside every linear layer of the decoder blocks instead.

    Raises:
        DSPAError: no projection of a name that is known here.
    """
    model.requires_grad_(False)

    def put_beside(projection: Any) -> None:
        weight = projection.weight
        # GPT-2's class keeps its weight the other way round than torch's linear layer.
        columns, rows = weight.shape[::-1] if isinstance(projection, nn.Linear) else weight.shape
        down, up = (
            nn.Parameter(torch.empty(shape, device=weight.device))
            for shape in ((columns, rank), (rank, rows))
        )
        projection.lora = nn.ParameterList([down, up])

        def add(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out + given[0] @ down @ up

        projection.register_forward_hook(add)

    adapted = [
        module
        for name, module in model.named_modules()
        if (name.endswith(_ADAPTED) if not every else _linear_in_a_block(name, module))
    ]
    if not adapted:
        raise DSPAError(
            f"{type(model).__name__} has no projection named {', '.join(_ADAPTED)}, so there is "
            "nothing to put LoRA beside: count its training with torch.utils.flop_counter"
        )
    for module in adapted:
        put_beside(module)


def _linear_in_a_block(name: str, module: object) -> bool:
    # Decoder blocks are numbered; the LM head and the embeddings are not.
    return isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))
