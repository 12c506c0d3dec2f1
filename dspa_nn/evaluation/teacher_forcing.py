"""Teacher-forced passes: log-probabilities of given responses, unsteered and steered."""

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dspa_nn.errors import DSPAError, DSPAWarning
from dspa_nn.evaluation.batches import plan_batches
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.models import as_local, evaluating
from dspa_nn.prompts import Rendered, padded
from dspa_nn.steering import DSPA, DSPAMethod, EditLog, SteeringMethod

# Padded tokens to a pass: the logits of so many positions, twice, stay below 1 GB.
TOKEN_BUDGET = 1536
# Positions whose log-softmax is taken at a time.
_CHUNK = 128


@dataclass(frozen=True)
class Forced:
    """What teacher-forced passes measured, one value per sequence.

    Attributes:
        log_prob: mean log p of the response's tokens, in nats per token.
        kl: mean KL(unsteered || steered) of the next-token distributions that predict them, nats.
        edits: edited latents per steered token. norm: mean norm of the residual stream's change
            per steered token. Both 0 where nothing was steered, or where a method has no log.
        by_latent: output latent -> how often it was edited, over all sequences.
    """

    log_prob: Float64[np.ndarray, " n"]
    kl: Float64[np.ndarray, " n"]
    edits: Float64[np.ndarray, " n"]
    norm: Float64[np.ndarray, " n"]
    by_latent: dict[int, int] = field(default_factory=dict[int, int])


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
        SteeringError: inside a tracing context.
    """
    check_outside_blocks("force")
    for index, sequence in enumerate(sequences):
        if not len(sequence.response_ids):
            raise DSPAError(
                f"sequence {index} has no response, and one of at least one token was expected; "
                "leave it out"
            )
    measured = [[np.zeros(len(sequences)) for _ in range(4)] for _ in methods]
    by_latent: list[dict[int, int]] = [{} for _ in methods]
    for indices in plan_batches([len(sequence.ids) for sequence in sequences], token_budget):
        batch = [sequences[index] for index in indices]
        owner = torch.repeat_interleave(
            torch.arange(len(batch)), torch.tensor([len(row.response_ids) for row in batch])
        )
        targets = torch.cat([row.response_ids for row in batch])
        unsteered = Pass(dspa, batch)
        base = log_softmax(unsteered.logits)
        targets = targets.to(base.device)
        for which, method in enumerate(methods):
            log = None
            if method is None:
                picked = base.gather(-1, targets.unsqueeze(-1))[:, 0]
                kl = torch.zeros(len(base))
            else:
                logits, log = unsteered.again(method)
                picked, kl = compare(logits, base, targets)
            means = [mean_by(owner, values, len(batch)) for values in (picked, kl)]
            for array, values in zip(
                measured[which], [*means, *edit_figures(log, len(batch))], strict=True
            ):
                array[indices] = values
            for latent, times in ({} if log is None else log.by_latent()).items():
                by_latent[which][latent] = by_latent[which].get(latent, 0) + times
            if advance is not None:
                advance(len(batch))
    return [
        Forced(*arrays, by_latent=dict(sorted(latents.items(), key=lambda kv: (-kv[1], kv[0]))))
        for arrays, latents in zip(measured, by_latent, strict=True)
    ]


class Pass:
    """One batch through the unsteered model, and again under a steering method.

    Attributes:
        logits: [positions, vocabulary], those that predict the responses' tokens, row after row.
    """

    def __init__(self, dspa: DSPA, batch: Sequence[Rendered]) -> None:
        self.dspa, self.batch = dspa, list(batch)
        self.inputs = padded([row.ids for row in batch], "right")
        self.tokens = self.inputs["input_ids"].shape[1]
        # The head is a fifth of a small model's work: no logits before the first that is needed.
        keep = self.tokens - min(row.prompt_length for row in batch) + 1
        self.settings = {"use_cache": False, "logits_to_keep": keep}
        model: Any = dspa.model
        blocks = [model.get(path) for path in dspa.paths]
        with evaluating(model), torch.no_grad(), model.trace(self.inputs, **self.settings):
            early = blocks[0].output.save()
            late = early if dspa.paths[0] == dspa.paths[1] else blocks[1].output.save()
            logits = model.output.logits.save()
        self.outputs = early, late
        self.logits = self.predicting(logits)

    def again(
        self, method: SteeringMethod
    ) -> tuple[Float[Tensor, "positions vocabulary"], EditLog | None]:
        """The logits under a method, and the log of what was edited, where it keeps one."""
        if (
            isinstance(method, DSPAMethod)
            and method.dspa.model is self.dspa.model
            and method.dspa.paths == self.dspa.paths
        ):
            return self._above_the_edit(method)
        hf_model: Any = as_local(self.dspa.model)
        with evaluating(hf_model), quiet(), torch.no_grad(), method.steering(self.batch) as log:
            on_device = {name: ids.to(hf_model.device) for name, ids in self.inputs.items()}
            logits = hf_model(**on_device, **self.settings).logits
        return self.predicting(logits), log

    def _above_the_edit(
        self, method: DSPAMethod
    ) -> tuple[Float[Tensor, "positions vocabulary"], EditLog]:
        """DSPA's fast path: its edit changes nothing below the output layer, so skip that.

        The decoder blocks below are handed what they put out before: the input layer's output for
        the prompt's latents, the output layer's to be edited.
        """
        dspa, (early, late) = self.dspa, self.outputs
        model: Any = dspa.model
        blocks = [model.get(dspa.facts.block(layer)) for layer in range(dspa.output_layer + 1)]
        mode = evaluating(model)
        with mode, quiet(), torch.no_grad(), model.trace(self.inputs, **self.settings):
            log = method.apply(prompt=self.batch)
            for layer, block in enumerate(blocks):
                block.skip(early if layer <= dspa.input_layer else late)
            logits = model.output.logits.save()
        return self.predicting(logits), log

    def predicting(
        self, logits: Float[Tensor, "rows kept vocabulary"]
    ) -> Float[Tensor, "positions vocabulary"]:
        """Of each row's last logits those that predict its response, row after row, in float32."""
        start = self.tokens - logits.shape[1]
        rows = [
            row[sequence.prompt_length - 1 - start : len(sequence.ids) - 1 - start]
            for row, sequence in zip(logits, self.batch, strict=True)
        ]
        return torch.cat(rows).float()


def log_softmax(
    logits: Float[Tensor, "positions vocabulary"],
) -> Float[Tensor, "positions vocabulary"]:
    """Log-probabilities, written over the logits a chunk at a time.

    Example:
        >>> log_softmax(torch.zeros(1, 2)).exp()
        tensor([[0.5000, 0.5000]])
    """
    for chunk in torch.split(logits, _CHUNK):
        chunk -= torch.logsumexp(chunk, -1, keepdim=True)
    return logits


def compare(
    logits: Float[Tensor, "positions vocabulary"],
    base: Float[Tensor, "positions vocabulary"],
    targets: Int64[Tensor, " positions"],
) -> tuple[Float[Tensor, " positions"], Float[Tensor, " positions"]]:
    """Log p of each target, and KL(base || these logits); `base` holds log-probabilities."""
    picked: list[Tensor] = []
    kl: list[Tensor] = []
    chunks = (torch.split(values, _CHUNK) for values in (logits, base, targets))
    for steered, unsteered, target in zip(*chunks, strict=True):
        total = torch.logsumexp(steered, -1)
        picked.append(steered.gather(-1, target.unsqueeze(-1))[:, 0] - total)
        kl.append((unsteered.exp() * (unsteered - steered)).sum(-1) + total)
    return torch.cat(picked), torch.cat(kl)


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


def edit_figures(log: EditLog | None, rows: int) -> list[Float64[np.ndarray, " rows"]]:
    """Edits, and the norm of the change, each per steered token; 0 where there is no log."""
    edits, tokens, norms = (np.zeros(rows) for _ in range(3))
    for one in () if log is None else log.passes():
        edits += one.edited.sum((1, 2)).cpu().numpy()
        tokens += one.steered.sum(1).cpu().numpy()
        norms += torch.where(one.steered, one.norm, 0.0).double().sum(1).cpu().numpy()
    return [edits / np.maximum(tokens, 1), norms / np.maximum(tokens, 1)]


@contextmanager
def quiet() -> Generator[None]:
    """Leave out this package's warnings: how much was edited is among the figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DSPAWarning)
        yield
