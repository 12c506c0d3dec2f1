"""Answers, unsteered and steered, and what can be read off them without a judge."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dspa_nn.checks import check_positive_int, check_temperature
from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation.passes import quiet
from dspa_nn.evaluation.teacher_forcing import check_methods, force, join
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.models import as_local, evaluating
from dspa_nn.prompts import Rendered, padded
from dspa_nn.steering import DSPA, EditLog, SteeringMethod


@dataclass(frozen=True)
class Answers:
    """Answers to a list of prompts.

    Attributes:
        texts: decoded, without special tokens.
        ids: the tokens of each, its end of turn left out.
        logs: one edit log per batch; none where nothing was steered, or where a method has no log.
    """

    texts: list[str]
    ids: list[Int64[Tensor, " _"]]
    logs: list[EditLog]

    def by_latent(self) -> dict[int, int]:
        """Output latent -> how often it was edited, most often first."""
        total: dict[int, int] = {}
        for log in self.logs:
            for latent, times in log.by_latent().items():
                total[latent] = total.get(latent, 0) + times
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def answer(
    dspa: DSPA,
    prompts: Sequence[Rendered],
    method: SteeringMethod | None = None,
    *,
    max_new_tokens: int = 32,
    batch_size: int = 25,
    temperature: float = 0.0,
    stop: str | None = None,
    each_step: Callable[[Tensor], object] | None = None,
    advance: Callable[[int], object] | None = None,
) -> Answers:
    """Answer every prompt, in left-padded batches; None leaves the model unsteered.

    Example:
        >>> answers = answer(dspa, [prompt], DSPAMethod("tuned", dspa, map), max_new_tokens=4)
        >>> len(answers.texts), len(answers.logs)
        (1, 1)

    Args:
        dspa: the model that answers, and its tokenizer.
        prompts: what `render` returned.
        method: entered once per batch, with the batch's prompts.
        max_new_tokens: length of an answer, at most.
        batch_size: prompts that are answered at once.
        temperature: of the sampling, over all tokens; 0 is greedy. `torch.manual_seed` makes a
            sampled run repeatable.
        stop: a text at which an answer ends, itself left out; for models that do not end a turn.
        each_step: called at every step with the next-token logits, [rows, vocabulary], as the model
            (steered, where it is) put them out.
        advance: called with the number of prompts that are done.

    Raises:
        EvaluationError: a temperature below 0 or too small to divide by, or a length or batch
            below 1.
        SteeringError: inside a tracing context, or what the method raises.
    """
    check_methods([method])
    check_temperature(temperature, EvaluationError)
    check_positive_int("max_new_tokens", max_new_tokens, EvaluationError)
    check_positive_int("batch_size", batch_size, EvaluationError)
    hf_model: Any = as_local(dspa.model)
    check_outside_blocks("answer", hf_model if method is None else None)
    tokenizer, ends = dspa.facts.tokenizer, dspa.facts.eos_ids
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    if stop:
        sampling |= {"stop_strings": [stop], "tokenizer": tokenizer}
    if each_step is not None:
        sampling["logits_processor"] = [_Watch(each_step)]
    texts: list[str] = []
    ids: list[Tensor] = []
    logs: list[EditLog] = []
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        inputs = padded([prompt.prompt_ids for prompt in batch], "left", pad)
        inputs = {name: values.to(hf_model.device) for name, values in inputs.items()}
        steering = nullcontext() if method is None else method.steering(batch)
        with evaluating(hf_model), quiet(), torch.no_grad(), steering as log:
            result = hf_model.generate(
                **inputs, max_new_tokens=max_new_tokens, pad_token_id=pad, **sampling
            )
        if log is not None:
            logs.append(log)
        for row in result[:, inputs["input_ids"].shape[1] :].cpu():
            ended = torch.nonzero(torch.isin(row, torch.tensor(ends, dtype=row.dtype)))
            said = row[: int(ended[0])] if len(ended) else row
            ids.append(said.to(torch.int64))
            text = tokenizer.decode(said, skip_special_tokens=True)
            texts.append((text.partition(stop)[0] if stop else text).strip())
        if advance is not None:
            advance(len(batch))
    return Answers(texts, ids, logs)


class _Watch:
    """Shows each step's logits to a function and leaves them as they are."""

    def __init__(self, look: Callable[[Tensor], object]) -> None:
        self.look = look

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        self.look(logits)
        return logits


def surprise(
    dspa: DSPA, prompts: Sequence[Rendered], answers: Answers
) -> Float64[np.ndarray, " n"]:
    """Log perplexity of each answer under the *unsteered* model: nats per token.

    Example:
        >>> answers = answer(dspa, [prompt], max_new_tokens=4)
        >>> surprise(dspa, [prompt], answers).shape
        (1,)

    The ratio of two methods' perplexities is the exponential of their mean paired difference. NaN
    where an answer has no token.

    Raises:
        EvaluationError: another number of answers than of prompts.
    """
    if len(prompts) != len(answers.ids):
        raise EvaluationError(
            f"{len(prompts)} prompts and {len(answers.ids)} answers came; give the prompts that "
            "were answered, in their order"
        )
    values = np.full(len(prompts), np.nan)
    answered = [index for index, ids in enumerate(answers.ids) if len(ids)]
    if answered:
        sequences = [join(prompts[index], answers.ids[index]) for index in answered]
        values[answered] = -force(dspa, sequences, [None])[0].log_prob
    return values


def distinct(ids: Int64[Tensor, " tokens"], n: int) -> float:
    """Share of different n-grams among an answer's n-grams of tokens; NaN where it has none.

    Example:
        >>> distinct(torch.tensor([5, 6, 5, 6]), 2)
        0.6666666666666666

    Raises:
        EvaluationError: n below 1.
    """
    check_positive_int("n", n, EvaluationError)
    tokens = [int(token) for token in ids]
    grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")
