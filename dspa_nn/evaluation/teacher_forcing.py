"""Teacher-forced passes: log-probabilities of given responses, unsteered and steered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dspa_nn.errors import DSPAError, EvaluationError
from dspa_nn.evaluation.passes import Moved, Pass, compare, log_softmax
from dspa_nn.evaluation.tokens import TokenChanges
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.models import torch_module
from dspa_nn.prompts import Rendered, batches_by_length
from dspa_nn.steering import DSPA, SteeringMethod

# Padded tokens to a pass: the logits of so many positions, twice, stay below 1 GB.
TOKEN_BUDGET = 1536


@dataclass(frozen=True)
class Forced:
    """What teacher-forced passes measured, one value per sequence.

    Attributes:
        log_prob: mean log p of the response's tokens, in nats per token.
        kl: mean KL(unsteered || steered) of the next-token distributions that predict them, nats.
        edits: edited latents per steered token; 0 where a method keeps no log.
        share: norm of the residual stream's change at the output layer over its norm, the mean
            over the steered tokens.
        tokens: the responses token by token.
        by_latent: output latent -> how often it was edited, over all sequences.
    """

    log_prob: Float64[np.ndarray, " n"]
    kl: Float64[np.ndarray, " n"]
    edits: Float64[np.ndarray, " n"]
    share: Float64[np.ndarray, " n"]
    tokens: list[TokenChanges]
    by_latent: dict[int, int]


def join(prompt: Rendered, response_ids: Int64[Tensor, " response"]) -> Rendered:
    """A rendered prompt with the given response ids, never re-tokenised.

    Example:
        >>> join(prompt, torch.tensor([7, 8])).response_ids
        tensor([7, 8])
    """
    return replace(prompt, ids=torch.cat([prompt.prompt_ids, response_ids]))


def force(
    dspa: DSPA,
    sequences: Sequence[Rendered],
    methods: Sequence[SteeringMethod | None],
    *,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
) -> list[Forced]:
    """Measure every method on the same sequences; None is the unsteered model.

    Example:
        >>> method = DSPAMethod("tuned", dspa, map)
        >>> unsteered, steered = force(dspa, [dspa.render("sun", "moon")], [None, method])
        >>> unsteered.log_prob.shape
        (1,)

    Args:
        dspa: the model that is measured, and its tokenizer.
        sequences: prompts with a response of at least one token.
        methods: each steers the positions that predict the response (docs/method.md 5).
        token_budget: padded tokens to a pass.
        advance: called with the number of sequences that are done, under each method.

    Raises:
        DSPAError: a sequence without a response.
        EvaluationError: a method that cannot steer.
        SteeringError: inside a tracing context.
    """
    check_outside_blocks("force", torch_module(dspa.model))
    for index, sequence in enumerate(sequences):
        if not len(sequence.response_ids):
            raise DSPAError(
                f"sequence {index} has no response, and one of at least one token was expected; "
                "leave it out"
            )
    check_methods(methods)
    tables = [_Table(len(sequences)) for _ in methods]
    for indices in batches_by_length([len(sequence.ids) for sequence in sequences], token_budget):
        batch = [sequences[index] for index in indices]
        targets = torch.cat([row.response_ids for row in batch])
        unsteered = Pass(dspa, batch)
        base = log_softmax(unsteered.logits)
        targets = targets.to(base.device)
        before = base.gather(-1, targets.unsqueeze(-1))[:, 0]
        for table, method in zip(tables, methods, strict=True):
            if method is None:
                after, kl, moved = before, torch.zeros(len(base)), unsteered.nothing_moved()
            else:
                logits, moved = unsteered.again(method)
                after, kl = compare(logits, base, targets)
            table.fill(dspa, indices, batch, (before, after, kl), moved)
            if advance is not None:
                advance(len(batch))
    return [table.forced() for table in tables]


def token_changes(
    dspa: DSPA,
    sequences: Sequence[Rendered],
    method: SteeringMethod | None,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> list[TokenChanges]:
    """How a method changes log p of every token of given responses.

    Example:
        >>> responses = [dspa.render(one.prompt, one.chosen) for one in triples[:2]]
        >>> changes = token_changes(dspa, responses, DSPAMethod("tuned", dspa, map))
        >>> len(changes), changes[0].change.shape == changes[0].edits.shape
        (2, True)
        >>> str(changes[0])
        '...'

    Args:
        dspa: the model that is measured, and its tokenizer.
        sequences: prompts with a response, as `dspa.render(prompt, response)` returns them. The
            prompt is steered from its last token on, which predicts the response's first.
        method: what steers; None changes nothing.
        token_budget: padded tokens to a pass.

    Returns:
        A `TokenChanges` for each sequence. Those of held-out triples are in the result of
        `margins` as well, under `chosen.tokens` and `rejected.tokens`.

    Raises:
        DSPAError: a sequence without a response, or what the method raises.
        SteeringError: inside a tracing context.
    """
    check_outside_blocks("token_changes")
    return force(dspa, sequences, [method], token_budget=token_budget)[0].tokens


class _Table:
    """What is known so far of all sequences under one method."""

    def __init__(self, count: int) -> None:
        self.log_prob, self.kl, self.edits, self.share = (np.zeros(count) for _ in range(4))
        self.tokens: dict[int, TokenChanges] = {}
        self.by_latent: dict[int, int] = {}

    def fill(
        self,
        dspa: DSPA,
        indices: Sequence[int],
        batch: Sequence[Rendered],
        values: tuple[Tensor, Tensor, Tensor],
        moved: Moved,
    ) -> None:
        """Enter a batch: log p before and after and KL of its positions, and what moved."""
        owner = torch.repeat_interleave(
            torch.arange(len(batch)), torch.tensor([len(row.response_ids) for row in batch])
        )
        before, after, kl = (one.double().cpu() for one in values)
        self.log_prob[indices] = mean_by(owner, after, len(batch))
        self.kl[indices] = mean_by(owner, kl, len(batch))
        steered = moved.steered.sum(1).clamp(min=1).numpy()
        self.edits[indices] = (moved.edits * moved.steered).sum(1).numpy() / steered
        self.share[indices] = (moved.share * moved.steered).sum(1).numpy() / steered
        for row, (index, sequence) in enumerate(zip(indices, batch, strict=True)):
            own = owner == row
            predicting = slice(sequence.prompt_length - 1, len(sequence.ids) - 1)
            self.tokens[index] = TokenChanges(
                ids=sequence.response_ids.cpu(),
                unsteered=before[own].numpy(),
                steered=after[own].numpy(),
                edits=moved.edits[row, predicting].numpy(),
                share=moved.share[row, predicting].double().numpy(),
                tokenizer=dspa.facts.tokenizer,
            )
        for latent, times in moved.by_latent.items():
            self.by_latent[latent] = self.by_latent.get(latent, 0) + times

    def forced(self) -> Forced:
        """All of it, once every batch is in."""
        often = sorted(self.by_latent.items(), key=lambda item: (-item[1], item[0]))
        tokens = [self.tokens[index] for index in range(len(self.tokens))]
        return Forced(self.log_prob, self.kl, self.edits, self.share, tokens, dict(often))


def mean_by(
    owner: Int64[Tensor, " positions"], values: Float[Tensor, " positions"], rows: int
) -> Float64[np.ndarray, " rows"]:
    """The mean over each row's positions.

    Example:
        >>> mean_by(torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0, 5.0]), rows=2)
        array([2., 5.])
    """
    total = torch.zeros(rows, dtype=torch.float64).index_add_(0, owner, values.double().cpu())
    return (total / torch.bincount(owner, minlength=rows)).numpy()


def check_methods(methods: object) -> None:
    """Refuse what cannot steer; None is the unsteered model.

    Example:
        >>> check_methods([None, DSPAMethod("DSPA", dspa, map)])

    Raises:
        EvaluationError: one method that is not in a list, or a method that cannot steer, naming
            its type.
    """
    if isinstance(methods, SteeringMethod) or not isinstance(methods, Sequence):
        raise EvaluationError(
            f"methods is of type {type(methods).__name__}, where a list of methods was expected: "
            "put a single one in brackets"
        )
    for method in cast(Sequence[object], methods):
        if isinstance(method, type):
            raise EvaluationError(
                f"the class {method.__name__} came, where an object was expected: build one, as in "
                f"{method.__name__}(...)"
            )
        if method is not None and not isinstance(method, SteeringMethod):
            raise EvaluationError(
                f"a method of type {type(method).__name__} came, where an object with a name and "
                "with steering(prompts) was expected: a map is measured as DSPAMethod(name, dspa, "
                "map)"
            )
