# pyright: basic
"""One dense vector added to the residual stream, for every prompt or for some: docs/method.md 8.

Which positions are steered, how prompts, padding, caches and beams are told apart, and how nnsight
or plain hooks bring the hidden states is all `Steering`'s; the edit alone is another.
"""

from typing import Any

import torch
from nnsight import save
from torch import Tensor

from dspa_nn.graph.active import check_finite
from dspa_nn.graph.adapter import end_run, value_at
from dspa_nn.graph.apply import apply
from dspa_nn.graph.arriving import Returned
from dspa_nn.graph.blocks import hidden_states, without_autocast
from dspa_nn.graph.calls import current_call
from dspa_nn.graph.edit import add_change
from dspa_nn.graph.origin import OF_MODELS, contradicting, origin_served
from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.stand_ins import rendered_prompts
from dspa_nn.graph.steer import Steering

ARRIVES = "dspa_nn.baselines.log.received"


def masked_mean(hidden: Tensor, where: Tensor) -> Tensor:
    """Mean hidden state of each row over the tokens that `where` marks: float64 [rows, d_model].

    hidden: [rows, tokens, d_model]; where: bool [rows, tokens]. 0 for a row with none.
    """
    where = where.to(hidden.device, torch.float64).unsqueeze(-1)
    total = (hidden.to(torch.float64) * where).sum(1)
    return total / where.sum(1).clamp(min=1)


def similarity(mean: Tensor, condition: Tensor, tanh: bool) -> Tensor:
    """CAST's sim(h, proj_c h), or sim(h, tanh(proj_c h)): float64 [rows]; 0 where h or c is 0.

    mean: float64 [rows, d_model], mean hidden states of prompts; condition: [d_model].
    """
    c = condition.to(mean.device, torch.float64)
    projected = (mean @ c).unsqueeze(-1) * c / (c @ c).clamp(min=1e-30)
    if tanh:
        projected = torch.tanh(projected)
    norms = mean.norm(dim=-1) * projected.norm(dim=-1)
    return (mean * projected).sum(-1) / norms.clamp(min=1e-30)


def opens(similarity: Tensor, threshold: float, larger: bool) -> Tensor:
    """Whether the gate of each prompt is open: bool [rows]."""
    return similarity > threshold if larger else similarity < threshold


def check_vector(fitted: Any, here: Any, words: str, what: str = "this vector") -> None:
    """Refuse a vector, or what else was made with a model, of another; the sentence names both."""
    contradiction = contradicting(fitted, here, OF_MODELS)
    if contradiction is not None:
        name, one, other = contradiction
        raise refuse(
            SteeringRefusal,
            f"{what} was fitted with {name} {one}, but {words} {name} {other}; use the one "
            "it was fitted with, or fit one for this",
        )


class VectorSteering(Steering):
    """The state of one run in which a vector is added: see `Steering`."""

    def __init__(
        self, steerer, ids: Tensor, mask: Tensor, prompt_length, content, generating, on_end=None
    ):
        Steering.__init__(self, steerer, ids, mask, prompt_length, content, generating, on_end)
        self.reads_prompt = steerer.condition is not None
        self.anywhere = True  # whether any row is steered at all

    def read_prompt(self, hidden: Tensor) -> None:
        """Decide which rows are steered. hidden: [rows, tokens, d_model] at the condition layer."""
        self.check_prompt_pass(hidden)
        check_finite(hidden, self.counted, "input")
        condition = self.steerer.condition
        with torch.no_grad():
            mean = masked_mean(hidden, self.counted)
            alike = similarity(mean, condition["vector"], condition["tanh"])
            opened = opens(alike, condition["threshold"], condition["larger"])
            self.record.similarity = alike
            self.record.opened = opened & self.counted.any(-1).to(opened.device)
            self.anywhere = bool(self.record.opened.any())

    def edit(self, hidden: Tensor) -> Tensor:
        """The output layer's hidden states with the vector added; the same object where none is.

        hidden: [rows, tokens, d_model], every pass of the run in turn.
        """
        step, self.step = self.step, self.step + 1
        record, tokens = self.record, hidden.shape[1]
        if record.opened is None:
            if self.reads_prompt:
                raise refuse(
                    SteeringRefusal,
                    "the steered layer was passed before the prompt was read at the condition's "
                    "layer; steer a model whose layers run one after another, as it was loaded",
                )
            self.check_prompt_pass(hidden)
            record.opened = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
        start, where = self.steered(tokens, step)
        if start == tokens:
            record.steps.append(None)
            return hidden
        part = hidden[:, start:] if start else hidden
        if where is None:
            where = torch.ones(part.shape[:2], dtype=torch.bool)
        where = where.to(hidden.device)
        if not step:
            # Later passes are not checked: it would make a GPU wait, and NaN shows in the log.
            check_finite(part, where, "output")
        change = self.steerer.change.to(hidden.device)
        moved = where & record.opened.to(hidden.device).unsqueeze(-1)
        norm = torch.linalg.vector_norm(change, dtype=torch.float32)
        none = part.new_zeros(*part.shape[:2], 0)
        kept = {
            "start": start,
            "before": none,
            "after": none,
            "strongest": part.new_zeros(part.shape[:2]),
            "norm": moved * norm,
            "stream": torch.linalg.vector_norm(part, dim=-1, dtype=torch.float32),
            "steered": moved,
        }
        self.note(kept, step, tokens)
        if not self.steerer.moves or not self.anywhere:
            return hidden
        out = add_change(part, change, moved)
        return out if not start else torch.cat([hidden[:, :start], out], 1)


class VectorSteerer:
    """What one run needs to add a vector.

    Attributes:
        change: float32 [d_model], the vector times its scale.
        condition: None, or a dict: `vector` [d_model]; `threshold`; `larger`, whether the gate
            opens above it; `tanh`, whether the projection goes through it.
        options: positions, prompt_tokens, bos_id, markup_ids, scale, and the vector's origin.
        plans, own, content_of, earlier, kind: as in `Steerer`.
    """

    plans: Any = None
    own: Any = None
    content_of: Any = None
    earlier: Any = None
    kind = VectorSteering

    def __init__(self, vector: Tensor, scale: float, condition: Any, options: dict[str, Any]):
        self.change = vector.to(torch.float32) * scale
        self.moves = bool((self.change != 0).any())
        self.condition = condition
        self.options = options


class PortableVector:
    """A control vector and the model it is of, as tensors: `VectorMethod` on the server.

    Attributes:
        paths: dotted paths of the condition's block (or the steered one) and of the steered block.
        vector: float32 [d_model]. scale: what it is multiplied by. condition: see `VectorSteerer`.
        options: see `VectorSteerer`. origin: the model that it was fitted with.
    """

    def __init__(self, paths, vector, scale, condition, options, origin):
        self.paths = paths
        self.vector = vector
        self.scale = scale
        self.condition = condition
        self.options = options
        self.origin = origin

    def steerer(self) -> VectorSteerer:
        """What one run needs."""
        return VectorSteerer(self.vector, self.scale, self.condition, dict(self.options))

    def apply(self, *, prompt=None, prompt_length=None):
        """`VectorMethod.apply`, on the server; the log is read where the toolkit is installed."""
        check_vector(self.origin, origin_served(current_call().module), "the server runs")
        record = apply(self.steerer(), self.paths, rendered_prompts(prompt), prompt_length)
        return save(Returned(record, ARRIVES))


class MeanReader:
    """Mean hidden states of one batch, in the trace that runs it.

    Args:
        paths: locations of the blocks that are read, ascending by layer.
        masks: for each of them a list of bool [rows, tokens].
    """

    def __init__(self, paths, masks):
        self.paths = paths
        self.masks = masks

    def read(self, results: list) -> None:
        """Add a list of float64 [rows, d_model], one for each mask of each block; end the run."""
        found = []
        for path, masks in zip(self.paths, self.masks, strict=True):
            hidden = hidden_states(value_at(f"{path}.output"))
            with without_autocast(hidden):
                found += [masked_mean(hidden, mask).cpu() for mask in masks]
        results.append(found)
        end_run()
