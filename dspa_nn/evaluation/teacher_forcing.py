"""Teacher-forced passes: log-probabilities of given responses, unsteered and steered."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dspa_nn.errors import DSPAError, DSPAWarning
from dspa_nn.evaluation.methods import Condition
from dspa_nn.prompts.rendering import Rendered
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.log import EditLog

# Padded tokens to a pass: the logits of so many positions, twice, stay below 1 GB.
TOKEN_BUDGET = 1536
# Positions whose log-softmax is taken at a time.
_BLOCK = 128


@dataclass(frozen=True)
class Forced:
    """What teacher-forced passes measured, one value a sequence.

    Attributes:
        log_prob: mean log p of the response's tokens, in nats a token.
        kl: mean KL(unsteered || steered) of the next-token distributions that predict them, nats.
        edits: edited latents a steered token. norm: mean norm of the residual stream's change a
            steered token. Both 0 where nothing was steered.
        by_latent: output latent -> how often it was edited, over all sequences.
    """

    log_prob: Float64[np.ndarray, " n"]
    kl: Float64[np.ndarray, " n"]
    edits: Float64[np.ndarray, " n"]
    norm: Float64[np.ndarray, " n"]
    by_latent: dict[int, int] = field(default_factory=dict)


def join(prompt: Rendered, response_ids: Int64[Tensor, " response"]) -> Rendered:
    """A rendered prompt with response ids of its own, never re-tokenised."""
    return replace(prompt, ids=torch.cat([prompt.prompt_ids, response_ids]))


def force(
    dspa: DSPA,
    sequences: Sequence[Rendered],
    conditions: Sequence[Condition | None],
    *,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], Any] = lambda _: None,
) -> list[Forced]:
    """Measure every condition on the same sequences; a condition of None is the unsteered model.

        unsteered, steered = force(dspa, [dspa.render(prompt, text)], [None, Condition("", map)])

    Args:
        sequences: prompts with a response of at least one token.
        conditions: each steers the positions that predict the response (docs/method.md 5).
        token_budget: padded tokens to a pass. advance: called with the sequences that are done.

    Raises:
        DSPAError: a sequence without a response.
    """
    for place, sequence in enumerate(sequences):
        if not len(sequence.response_ids):
            raise DSPAError(
                f"sequence {place} has no response, and one of at least one token was expected; "
                "leave it out"
            )
    found = [[np.zeros(len(sequences)) for _ in range(4)] for _ in conditions]
    often: list[dict[int, int]] = [{} for _ in conditions]
    for places in plan_batches([len(own.ids) for own in sequences], token_budget):
        batch = [sequences[place] for place in places]
        owner = torch.repeat_interleave(
            torch.arange(len(batch)), torch.tensor([len(own.response_ids) for own in batch])
        )
        targets = torch.cat([own.response_ids for own in batch])
        plain = Pass(dspa, batch)
        base = log_softmax(plain.logits)
        targets = targets.to(base.device)
        for which, condition in enumerate(conditions):
            if condition is None:
                picked, kl = base.gather(-1, targets.unsqueeze(-1))[:, 0], torch.zeros(len(base))
                figures = [np.zeros(len(batch))] * 2
            else:
                logits, log = plain.again(condition)
                picked, kl = compare(logits, base, targets)
                figures = edit_figures(log)
                for latent, times in log.by_latent().items():
                    often[which][latent] = often[which].get(latent, 0) + times
            means = [mean_by(owner, values, len(batch)) for values in (picked, kl)]
            for into, values in zip(found[which], [*means, *figures], strict=True):
                into[places] = values
            advance(len(batch))
    return [
        Forced(*arrays, by_latent=dict(sorted(latents.items(), key=lambda kv: (-kv[1], kv[0]))))
        for arrays, latents in zip(found, often, strict=True)
    ]


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Places of sequences in batches of alike length, the longest first."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


class Pass:
    """One batch through the unsteered model, and again, steered, from the output layer on.

    An edit changes nothing below the output layer. So the steered pass is handed what the blocks
    put out before: the input layer's for the prompt's latents, the output layer's to be edited.

    Attributes:
        logits: [positions, vocabulary], those that predict the responses' tokens, row after row.
    """

    def __init__(self, dspa: DSPA, batch: Sequence[Rendered]) -> None:
        ids = torch.nn.utils.rnn.pad_sequence([own.ids for own in batch], batch_first=True)
        lengths = torch.tensor([len(own.ids) for own in batch])
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(-1)).long()
        self.dspa, self.batch = dspa, list(batch)
        self.inputs = {"input_ids": ids, "attention_mask": mask}
        # The head is a fifth of a small model's work: no logits before the first that is needed.
        keep = ids.shape[1] - min(own.prompt_length for own in batch) + 1
        self.settings = {"use_cache": False, "logits_to_keep": keep}
        model = dspa.model
        blocks = [model.get(path) for path in dspa.paths]
        with torch.no_grad(), model.trace(self.inputs, **self.settings):
            early = blocks[0].output.save()
            late = early if dspa.paths[0] == dspa.paths[1] else blocks[1].output.save()
            logits = model.output.logits.save()
        self.outputs = early, late
        self.logits = self._responses(logits)

    def again(self, condition: Condition) -> tuple[Float[Tensor, "positions vocabulary"], EditLog]:
        """The logits under a condition, and the log of what was edited."""
        dspa, (early, late) = self.dspa, self.outputs
        model = dspa.model
        blocks = [model.get(dspa.facts.block(layer)) for layer in range(dspa.output_layer + 1)]
        with quiet(), torch.no_grad(), model.trace(self.inputs, **self.settings):
            log = dspa.apply(condition.map, prompt=self.batch, **condition.options)
            for layer, block in enumerate(blocks):
                block.skip(early if layer <= dspa.input_layer else late)
            logits = model.output.logits.save()
        return self._responses(logits), log

    def _responses(
        self, logits: Float[Tensor, "rows tokens vocabulary"]
    ) -> Float[Tensor, "positions vocabulary"]:
        start = self.inputs["input_ids"].shape[1] - logits.shape[1]
        rows = [
            row[own.prompt_length - 1 - start : len(own.ids) - 1 - start]
            for row, own in zip(logits, self.batch, strict=True)
        ]
        return torch.cat(rows).float()


def log_softmax(
    logits: Float[Tensor, "positions vocabulary"],
) -> Float[Tensor, "positions vocabulary"]:
    """Log-probabilities, written over the logits block by block."""
    for block in logits.split(_BLOCK):
        block -= block.logsumexp(-1, keepdim=True)
    return logits


def compare(
    logits: Float[Tensor, "positions vocabulary"],
    base: Float[Tensor, "positions vocabulary"],
    targets: Int64[Tensor, " positions"],
) -> tuple[Float[Tensor, " positions"], Float[Tensor, " positions"]]:
    """Log p of each target, and KL(base || these logits); `base` holds log-probabilities."""
    picked, kl = [], []
    blocks = zip(logits.split(_BLOCK), base.split(_BLOCK), targets.split(_BLOCK), strict=True)
    for own, other, target in blocks:
        total = own.logsumexp(-1)
        picked.append(own.gather(-1, target.unsqueeze(-1))[:, 0] - total)
        kl.append((other.exp() * (other - own)).sum(-1) + total)
    return torch.cat(picked), torch.cat(kl)


def mean_by(
    owner: Int64[Tensor, " positions"], values: Float[Tensor, " positions"], rows: int
) -> Float64[np.ndarray, " rows"]:
    """The mean over each row's positions."""
    total = torch.zeros(rows, dtype=torch.float64).index_add_(0, owner, values.double().cpu())
    return (total / torch.bincount(owner, minlength=rows)).numpy()


def edit_figures(log: EditLog) -> list[Any]:
    """Edits and the norm of the change, each a steered token: float64 [rows] twice."""
    edits, tokens, norms = (np.zeros(log.rows) for _ in range(3))
    for one in log.passes():
        edits += one.edited.sum((1, 2)).cpu().numpy()
        tokens += one.steered.sum(1).cpu().numpy()
        norms += torch.where(one.steered, one.norm, 0.0).double().sum(1).cpu().numpy()
    return [edits / np.maximum(tokens, 1), norms / np.maximum(tokens, 1)]


@contextmanager
def quiet() -> Any:
    """Keep warnings of ours to ourselves: how much was edited is among the figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DSPAWarning)
        yield
