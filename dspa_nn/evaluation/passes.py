"""One batch through the model, unsteered and again under a steering method."""

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dspa_nn.errors import DSPAWarning
from dspa_nn.graph.blocks import hidden_states
from dspa_nn.models import as_local, evaluating
from dspa_nn.prompts import Rendered, padded
from dspa_nn.steering import DSPA, DSPAMethod, EditLog, SteeringMethod

# Positions whose log-softmax is taken at a time.
_CHUNK = 128


@dataclass(frozen=True)
class Moved:
    """What a method did to the residual stream at every position of a batch.

    Attributes:
        edits: output latents edited; 0 where a method keeps no log.
        share: norm of the stream's change at the output layer over the norm of the stream.
        steered: the positions that count: each row's last prompt token and its response.
        by_latent: output latent -> how often it was edited.
    """

    edits: Int64[Tensor, "rows tokens"]
    share: Float[Tensor, "rows tokens"]
    steered: Bool[Tensor, "rows tokens"]
    by_latent: dict[int, int]


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

    def again(self, method: SteeringMethod) -> tuple[Float[Tensor, "positions vocabulary"], Moved]:
        """The logits under a method, and what it did to the residual stream."""
        if (
            isinstance(method, DSPAMethod)
            and method.dspa.model is self.dspa.model
            and method.dspa.paths == self.dspa.paths
        ):
            logits, log = self._above_the_edit(method)
            return logits, self._of_log(log)
        hf_model: Any = as_local(self.dspa.model)
        on_device = {name: ids.to(hf_model.device) for name, ids in self.inputs.items()}
        with (
            evaluating(hf_model),
            quiet(),
            torch.no_grad(),
            method.steering(self.batch) as log,
            # Hooks run in the order in which they were placed: this one sees the steered stream.
            last_output(hf_model.get_submodule(self.dspa.paths[1])) as seen,
        ):
            logits = hf_model(**on_device, **self.settings).logits
        moved = self._of_stream(seen) if log is None else self._of_log(log)
        return self.predicting(logits), moved

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

    @property
    def steered(self) -> Bool[Tensor, "rows tokens"]:
        """True at each row's last prompt token and its response."""
        at = torch.arange(self.tokens)
        starts = torch.tensor([[row.prompt_length - 1] for row in self.batch])
        ends = torch.tensor([[len(row.ids)] for row in self.batch])
        return (starts <= at) & (at < ends)

    def nothing_moved(self) -> Moved:
        """What the unsteered model does to its own stream."""
        edits = torch.zeros(len(self.batch), self.tokens, dtype=torch.int64)
        return Moved(edits, edits.double(), self.steered, {})

    def _of_log(self, log: EditLog) -> Moved:
        """What a method with an edit log tells of."""
        moved = self.nothing_moved()
        steered = torch.zeros_like(moved.steered)
        for one in log.passes():
            here = slice(one.start, one.start + one.steered.shape[1])
            moved.edits[:, here] += one.edited.sum(-1).cpu()
            moved.share[:, here] += one.share * one.steered.cpu()
            steered[:, here] |= one.steered.cpu()
        return Moved(moved.edits, moved.share, steered, log.by_latent())

    def _of_stream(self, seen: Sequence[Any]) -> Moved:
        """What a method without a log changed, read off the stream itself."""
        before, after = (
            hidden_states(output).double().cpu() for output in (self.outputs[1], seen[-1])
        )
        moved = self.nothing_moved()
        if after.shape != before.shape:
            # It shows the model other tokens, such as an instruction before the prompt.
            return moved
        norm, stream = norms(after - before), norms(before)
        share = torch.where(moved.steered & (stream > 0), norm / stream, 0.0)
        return Moved(moved.edits, share, moved.steered, {})

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


@contextmanager
def last_output(module: Any) -> Generator[list[Any]]:
    """What a torch module puts out, in a list of one once it has run."""
    seen: list[Any] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen[:] = [output]

    handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def norms(hidden: Float[Tensor, "*positions d_model"]) -> Float[Tensor, "*positions"]:
    """Norm at every position, on the CPU; of a stream in half precision, in float32.

    Example:
        >>> norms(torch.tensor([[3.0, 4.0]]))
        tensor([5.])
    """
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    return cast(Any, wide).norm(dim=-1).cpu()


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


@contextmanager
def quiet() -> Generator[None]:
    """Leave out this package's warnings: how much was edited is among the figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DSPAWarning)
        yield
