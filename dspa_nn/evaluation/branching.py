"""The branching factor: among how many next tokens does a model choose while it answers?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation.answers import Answers, answer
from dspa_nn.evaluation.statistics import Interval, bootstrap
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, SteeringMethod


@dataclass(frozen=True)
class Branching:
    """Entropies of next-token distributions along sampled answers.

    Example:
        >>> found = branching_factor(dspa, [prompt], max_new_tokens=4)
        >>> 1 <= found.factor.mean <= len(dspa.facts.tokenizer)
        True

    Attributes:
        entropy: mean over the steps of each answer, nats per token; [samples * prompts], the
            prompts of the first sample, then of the next.
        answers: the sampled answers, in the same order.
    """

    entropy: Float64[np.ndarray, " n"]
    answers: Answers

    @property
    def factor(self) -> Interval:
        """Exp of the mean entropy over answers, with its interval: never below 1."""
        return bootstrap(self.entropy).exp()

    def ratio(self, other: "Branching") -> Interval:
        """This factor over that of another method on the same prompts, paired answer by answer.

        Example:
            >>> plain = branching_factor(dspa, [prompt], max_new_tokens=4)
            >>> plain.ratio(plain).mean
            1.0
        """
        return bootstrap(self.entropy - other.entropy).exp()


def branching_factor(
    dspa: DSPA,
    prompts: Sequence[Rendered],
    method: SteeringMethod | None = None,
    *,
    samples: int = 1,
    max_new_tokens: int = 32,
    batch_size: int = 25,
    seed: int = 0,
) -> Branching:
    """Sample answers under a method and take the entropy of each distribution they are drawn from.

    Example:
        >>> found = branching_factor(dspa, [prompt], DSPAMethod("tuned", dspa, map),
        ...                          samples=2, max_new_tokens=4)
        >>> found.entropy.shape
        (2,)

    The factor is `exp(mean over answers of (1/T) sum_t H(p(. | x, y_<t)))`, H the entropy of the
    (steered) model's own next-token distribution in nats, y drawn from it at temperature 1 without
    cutting its tail, T the answer's tokens with its end. This estimates the entropy of whole
    answers per token without the variance that -log p of the drawn tokens has. It is of answers up
    to `max_new_tokens`: entropy falls along an answer, so compare at one length.

    Args:
        dspa: the model that answers, and its tokenizer.
        prompts: what `render` returned.
        method: what steers; None is the unsteered model.
        samples: answers to each prompt. max_new_tokens: their length, at most.
        batch_size: prompts that are answered at once.
        seed: of the sampling; torch's own random state is left as it was.

    Raises:
        EvaluationError: samples, a length or a batch below 1.
        SteeringError: inside a tracing context, or what the method raises.

    Source: Yang and Holtzman 2025, arXiv 2506.17871; docs/measures.md.
    """
    check_positive_int("samples", samples, EvaluationError)
    check_positive_int("batch_size", batch_size, EvaluationError)
    entropies: list[np.ndarray] = []
    parts: list[Answers] = []
    untyped: Any = torch
    with untyped.random.fork_rng():
        untyped.manual_seed(seed)
        for _ in range(samples):
            for start in range(0, len(prompts), batch_size):
                batch = prompts[start : start + batch_size]
                steps: list[Tensor] = []
                found = answer(
                    dspa, batch, method, max_new_tokens=max_new_tokens, batch_size=len(batch),
                    temperature=1.0,
                    each_step=lambda logits, steps=steps: steps.append(entropy(logits)),
                )  # fmt: skip
                table = torch.stack(steps, 1)
                # An answer that ended made one step more than it has tokens: the end's.
                made = [min(len(ids) + 1, table.shape[1]) for ids in found.ids]
                rows = zip(table, made, strict=True)
                entropies.append(np.array([float(row[:steps].mean()) for row, steps in rows]))
                parts.append(found)
    answers = Answers(
        [text for part in parts for text in part.texts],
        [ids for part in parts for ids in part.ids],
        [log for part in parts for log in part.logs],
    )
    return Branching(np.concatenate(entropies) if entropies else np.zeros(0), answers)


def entropy(logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, " rows"]:
    """Entropy of each row's distribution, in nats.

    >>> entropy(torch.zeros(1, 8)).exp()
    tensor([8.0000])
    """
    untyped: Any = torch
    return untyped.special.entr(logits.float().softmax(-1)).sum(-1).cpu()
