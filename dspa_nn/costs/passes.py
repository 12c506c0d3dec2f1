"""FLOPs of one sequence through a model that is trained: forward, and backward."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from dspa_nn.costs.flops import (
    PROBE,
    add_lora,
    build,
    count_backward,
    count_forward,
    kind_of,
    text_config,
)
from dspa_nn.errors import DSPAError


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
    once, twice = count(n), count(2 * n)
    b = (twice - 2 * once) // (2 * n * n)
    a = (once - n * n * b) // n
    if count(3 * n) != 3 * n * (a + 3 * n * b):
        raise DSPAError(
            "training does not cost a fixed number of FLOPs per token and pair of tokens, so it "
            "cannot be predicted from lengths: count it with torch.utils.flop_counter"
        )
    return a, b
