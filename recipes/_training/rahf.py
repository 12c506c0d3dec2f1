"""RAHF-SCIT: a contrast between two instructions, then hidden states moved by their difference.

docs/method.md 8.8 states both losses, what the published fork does, and which of it is offered by
name. Both steps are subclasses of transformers' trainer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import logsigmoid
from transformers import Trainer

from dspa_nn.errors import DSPAError

from .pad import batch, token_log_probs
from .texts import Contrast, Ids, Stimuli

Normalise = Literal["response", "positions"]
Masked = Literal["response", "padding"]


@dataclass(frozen=True)
class Step1:
    """Settings of the first step: those of the paper and of its authors' fork."""

    lr: float = 2e-5
    warm_up: float = 0.1
    own_weight: float = 0.8
    other_weight: float = 0.2
    normalise: Normalise = "response"


@dataclass(frozen=True)
class Step2:
    """Settings of the second step: those of the paper and of its authors' fork."""

    lr: float = 3e-4
    factor: float = 5.0
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    last_positions: int = 512
    masked: Masked = "response"


def mean_log_prob(logits: Tensor, inputs: dict[str, Tensor], normalise: Normalise) -> Tensor:
    """Mean log-likelihood of each row's response [rows].

    "response": over the response's tokens. "positions": over all positions of the padded row, the
    others counted as 0, as the fork has it.
    """
    response = inputs["response"][:, 1:]
    total = (token_log_probs(logits, inputs["input_ids"]) * response).sum(-1)
    if normalise == "positions":
        return total / response.shape[1]
    return total / response.sum(-1).clamp(min=1)


def contrast_loss(own: Tensor, other: Tensor, settings: Step1) -> Tensor:
    """0.8 * -log q + 0.2 * -log(1 - q), q = exp(l+) / (exp(l+) + exp(l-)); own, other: [rows].

    q is a sigmoid of the difference, which overflows nowhere.
    """
    difference = own - other
    return -(
        settings.own_weight * logsigmoid(difference)
        + settings.other_weight * logsigmoid(-difference)
    ).mean()


class Step1Trainer(Trainer):
    """The loss of the response behind its own instruction, and the contrast with the other."""

    def __init__(self, *args: Any, tokenizer: Any, settings: Step1, **options: Any) -> None:
        self.settings = settings
        pad = tokenizer.pad_token_id

        def collate(rows: Sequence[Contrast]) -> dict[str, Tensor]:
            # One batch of both, so that one pass of the model serves both.
            return batch([row.own for row in rows] + [row.other for row in rows], pad, "right")

        super().__init__(*args, processing_class=tokenizer, data_collator=collate, **options)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Mean negative log-likelihood over the responses' tokens, and the contrast."""
        given = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        outputs = model(**given, use_cache=False)
        rows = len(inputs["input_ids"]) // 2
        response = inputs["response"][:rows, 1:]
        log_probs = token_log_probs(outputs.logits[:rows], inputs["input_ids"][:rows])
        likely = mean_log_prob(outputs.logits, inputs, self.settings.normalise)
        contrast = contrast_loss(likely[:rows], likely[rows:], self.settings)
        loss = contrast - log_probs[response].mean()
        return (loss, outputs) if return_outputs else loss


def default_targets(n_layers: int) -> list[int]:
    """Target layers in the middle of a model, as {8, 10, 12, 14} of Gemma-2-2B's 26.

    >>> default_targets(26), default_targets(30)
    ([8, 10, 12, 14], [9, 11, 13, 15])
    """
    first = round(8 / 26 * n_layers)
    return [layer for layer in range(first, first + 8, 2) if layer < n_layers] or [n_layers - 1]


def read_targets(text: str, n_layers: int) -> list[int]:
    """Target layers from a list such as "8,10,12,14"; of nothing, the default.

    >>> read_targets("3,1", 4)
    [1, 3]

    Raises:
        DSPAError: no numbers, or layers that the model lacks.
    """
    if not text:
        return default_targets(n_layers)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) < n_layers for part in parts):
        raise DSPAError(
            f"target layers {text!r} came, and the model has layers 0 to {n_layers - 1}: give "
            "--targets some of them, as in 8,10,12,14"
        )
    return sorted({int(part) for part in parts})


class _EnoughError(Exception):
    """The last block that is needed has run."""


def hidden_states(model: Any, rows: dict[str, Tensor], layers: Sequence[int]) -> list[Tensor]:
    """Outputs of decoder blocks, each [rows, tokens, d_model]; no block after them is run."""
    given = {key: rows[key] for key in ("input_ids", "attention_mask")}
    # Left padding: positions count real tokens.
    positions = (given["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    found: dict[int, Tensor] = {}

    def keep(layer: int, output: Any) -> None:
        found[layer] = output[0] if isinstance(output, tuple) else output
        if layer == max(layers):
            raise _EnoughError

    blocks = decoder_blocks(model)
    hooks = [
        blocks[layer].register_forward_hook(lambda _, __, output, at=layer: keep(at, output))
        for layer in layers
    ]
    try:
        # Padding on the left sees no token at all, and the fused kernels of a GPU then give
        # gradients that are no numbers.
        with sdpa_kernel(SDPBackend.MATH):
            model(**given, position_ids=positions, use_cache=False)
    except _EnoughError:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return [found[layer] for layer in layers]


def decoder_blocks(model: Any) -> Any:
    """The list of decoder blocks, also of a model that PEFT has wrapped."""
    depth = model.config.get_text_config().num_hidden_layers
    return next(
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    )


class Step2Trainer(Trainer):
    """Moves hidden states of the plain prompt by 5 times (good - bad), with an adapter.

    The model is one of PEFT; with the adapter off it is the model of the first step.
    """

    def __init__(
        self, *args: Any, tokenizer: Any, settings: Step2, layers: Sequence[int], **options: Any
    ) -> None:
        self.settings, self.layers = settings, list(layers)
        pad = tokenizer.pad_token_id

        def collate(rows: Sequence[Stimuli]) -> dict[str, Tensor]:
            # The response is aligned on the right, in all three alike.
            columns: dict[str, list[Ids]] = {
                "plain": [row.plain for row in rows],
                "good": [row.good for row in rows],
                "bad": [row.bad for row in rows],
            }
            return {
                f"{name}_{key}": value
                for name, ids in columns.items()
                for key, value in batch(ids, pad, "left").items()
            }

        super().__init__(*args, processing_class=tokenizer, data_collator=collate, **options)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Mean L2 distance of the hidden states to their targets, over positions and layers."""
        rows = {
            name: {
                key.removeprefix(f"{name}_"): value
                for key, value in inputs.items()
                if key.startswith(f"{name}_")
            }
            for name in ("plain", "good", "bad")
        }
        targets, where = self.targets(model, rows)
        moved = hidden_states(model, rows["plain"], self.layers)
        last = where.shape[1]
        distances = [
            (own[:, -last:].float() - target)[where].norm(dim=-1)
            for own, target in zip(moved, targets, strict=True)
        ]
        loss = torch.cat(distances).mean()
        return (loss, None) if return_outputs else loss

    def targets(
        self, model: Any, rows: dict[str, dict[str, Tensor]]
    ) -> tuple[list[Tensor], Tensor]:
        """Where the hidden states are to go, and at which of the last positions: bool."""
        last = min(
            self.settings.last_positions, *(own["input_ids"].shape[1] for own in rows.values())
        )
        training = model.training
        model.eval()  # no dropout in what is aimed at
        with torch.no_grad(), model.disable_adapter():
            base, good, bad = (
                [own[:, -last:].float() for own in hidden_states(model, rows[name], self.layers)]
                for name in ("plain", "good", "bad")
            )
        model.train(training)
        mark = "response" if self.settings.masked == "response" else "attention_mask"
        where = torch.stack([own[mark][:, -last:].bool() for own in rows.values()]).all(0)
        return [
            one + self.settings.factor * (two - three)
            for one, two, three in zip(base, good, bad, strict=True)
        ], where
