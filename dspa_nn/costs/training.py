"""FLOPs of what DSPA is compared with, DPO and RAHF-SCIT, at the paper's settings.

Counted on models without weights, as in `dspa_nn.costs.fit`; `account.py` has the paper's estimate.
"""

from dataclasses import asdict, dataclass
from typing import Any

from dspa_nn.costs.account import (
    STEP_1_TOKENS,
    STEP_2_BATCHES,
    STEP_2_ROWS,
    STEP_2_TOKENS,
)
from dspa_nn.costs.flops import text_config
from dspa_nn.costs.lengths import Lengths, checked_lengths
from dspa_nn.costs.passes import LORA_RANK, Pass, Trained, pass_flops
from dspa_nn.errors import DSPAError


@dataclass(frozen=True)
class TrainingFlops:
    """FLOPs of one way of training over some triples.

    Example:
        >>> print(dpo_flops(model.config, [(100, 100, 100)]))
        TrainingFlops: DPO, 1 triple(s), ... TFLOP (... forward, ... backward)

    Attributes:
        method: what was counted. triples: how many. forward, backward: FLOPs of each.
    """

    method: str
    triples: int
    forward: int
    backward: int

    @property
    def total(self) -> int:
        """All of it, in FLOPs."""
        return self.forward + self.backward

    @property
    def per_triple(self) -> float:
        """The mean over the triples, in FLOPs."""
        return self.total / self.triples

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file, total included."""
        return {**asdict(self), "total": self.total}

    def __str__(self) -> str:
        return (
            f"TrainingFlops: {self.method}, {self.triples} triple(s), {self.total / 1e12:.4g} "
            f"TFLOP ({self.forward / 1e12:.4g} forward, {self.backward / 1e12:.4g} backward)"
        )


def dpo_flops(config: Any, lengths: Lengths) -> TrainingFlops:
    """Count one epoch of DPO: both sequences through a frozen and through a trained model.

    Example:
        >>> dpo_flops(model.config, [(100, 100, 100)]).per_triple
        272588800.0

    Every weight is trained, every block and the LM head run, nothing is recomputed. The optimiser
    has no matrix products, so it counts for nothing.

    Raises:
        DSPAError: no triples, or a model that cannot be counted without data.
    """
    step = _training(config, lora=False, blocks=None)
    triples = checked_lengths(lengths)
    ends = [prompt + end for prompt, *both in triples for end in both]
    forward = sum(map(step.forward, ends))
    # The frozen reference model's forward is that of the trained one.
    return TrainingFlops("DPO", len(triples), 2 * forward, sum(map(step.backward, ends)))


def rahf_flops(
    config: Any, lengths: Lengths, *, last_target: int | None = None
) -> tuple[TrainingFlops, TrainingFlops]:
    """Count RAHF-SCIT's two steps at the paper's settings (docs/method.md 8).

    Example:
        >>> instructed, distilled = rahf_flops(model.config, [(100, 100, 100)], last_target=2)
        >>> instructed.total > distilled.total
        True

    Step 1 trains every weight on both responses, under both instructions, for two epochs;
    sequences are cut at 768 tokens. Step 2 is 0.02 batches per triple, of 64 sequences cut at 512
    tokens: three frozen forwards (base, and the step-1 model under both instructions) and one with
    LoRA on the query and value projections, all of them up to the last block whose hidden state
    is regressed. The tokens of the instructions are left out.

    Args:
        last_target: that block, 0-based; half of the model's depth by default.

    Raises:
        DSPAError: no triples, a block that the model lacks, or a model that cannot be counted
            without data.
    """
    depth = text_config(config).num_hidden_layers
    target = depth // 2 if last_target is None else last_target
    check_last_target(target, depth)
    triples = checked_lengths(lengths)
    ends = [prompt + end for prompt, *both in triples for end in both]

    full = _training(config, lora=False, blocks=None)
    first = [min(end, STEP_1_TOKENS) for end in ends]
    # Each end under two instructions, for two epochs.
    instructed = TrainingFlops(
        "RAHF-SCIT step 1",
        len(triples),
        4 * sum(map(full.forward, first)),
        4 * sum(map(full.backward, first)),
    )

    adapted = _training(config, lora=True, blocks=target + 1)
    frozen = _training(config, lora=False, blocks=target + 1)
    second = [min(end, STEP_2_TOKENS) for end in ends]
    # Sequences of step 2 for each of the two ends of a triple.
    share = STEP_2_ROWS * STEP_2_BATCHES / 2
    forwards = sum(3 * frozen.forward(n) + adapted.forward(n) for n in second)
    distilled = TrainingFlops(
        "RAHF-SCIT step 2",
        len(triples),
        round(share * forwards),
        round(share * sum(map(adapted.backward, second))),
    )
    return instructed, distilled


def check_last_target(target: int, depth: int) -> None:
    """Refuse a block that a model of this depth lacks.

    >>> check_last_target(11, depth=12)

    Raises:
        DSPAError: naming the block and those that there are.
    """
    if not 0 <= target < depth:
        raise DSPAError(
            f"last_target {target} came, and the model has layers 0 to {depth - 1}; give the last "
            "block whose hidden state RAHF regresses"
        )


def _training(config: Any, *, lora: bool, blocks: int | None) -> Pass:
    # A model cut at a middle block ends there; a whole one has its LM head.
    return pass_flops(config, Trained(blocks, blocks is None, LORA_RANK if lora else None, "qv"))
