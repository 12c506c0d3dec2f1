"""Greedy answers, unsteered and steered, and what can be read off them without a judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dspa_nn.evaluation.methods import Condition
from dspa_nn.evaluation.teacher_forcing import force, join, quiet
from dspa_nn.prompts.rendering import Rendered
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.log import EditLog


@dataclass(frozen=True)
class Answers:
    """Answers to a list of prompts.

    Attributes:
        texts: decoded, without special tokens. ids: the tokens of each, its end of turn left out.
        logs: one edit log a batch; none where nothing was steered.
    """

    texts: list[str]
    ids: list[Int64[Tensor, " tokens"]]
    logs: list[EditLog]

    def by_latent(self) -> dict[int, int]:
        """Output latent -> how often it was edited, most often first."""
        found: dict[int, int] = {}
        for log in self.logs:
            for latent, times in log.by_latent().items():
                found[latent] = found.get(latent, 0) + times
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def answer(
    dspa: DSPA,
    prompts: Sequence[Rendered],
    condition: Condition | None = None,
    *,
    max_new_tokens: int = 32,
    batch_size: int = 25,
    advance: Callable[[int], Any] = lambda _: None,
) -> Answers:
    """Answer every prompt greedily, in left-padded batches; None leaves the model unsteered.

    answers = answer(dspa, [dspa.render("Tell me about volcanoes.")], Condition("", map))
    """
    texts, ids, logs = [], [], []
    model, tokenizer, ends = dspa.model, dspa.facts.tokenizer, dspa.facts.eos_ids
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        width = max(own.prompt_length for own in batch)
        rows = torch.full((len(batch), width), pad)
        mask = torch.zeros_like(rows)
        for row, own in enumerate(batch):
            rows[row, width - own.prompt_length :] = own.prompt_ids
            mask[row, width - own.prompt_length :] = 1
        inputs = {"input_ids": rows, "attention_mask": mask}
        settings = {"max_new_tokens": max_new_tokens, "do_sample": False, "pad_token_id": pad}
        with quiet(), torch.no_grad():
            if condition is None:
                with model.generate(inputs, **settings) as tracer:
                    result = tracer.result.save()
            else:
                with model.generate(inputs, **settings) as tracer:
                    log = dspa.apply(condition.map, prompt=batch, **condition.options)
                    result = tracer.result.save()
                logs.append(log)
        for row in result[:, width:].cpu():
            stop = torch.nonzero(torch.isin(row, torch.tensor(ends, dtype=row.dtype)))
            own = row[: int(stop[0])] if len(stop) else row
            ids.append(own.to(torch.int64))
            texts.append(tokenizer.decode(own, skip_special_tokens=True).strip())
        advance(len(batch))
    return Answers(texts, ids, logs)


def surprise(
    dspa: DSPA, prompts: Sequence[Rendered], answers: Answers
) -> Float64[np.ndarray, " n"]:
    """Log perplexity of each answer under the *unsteered* model: nats a token, NaN for no token.

    The ratio of two conditions' perplexities is the exponential of their mean paired difference.
    """
    found = np.full(len(prompts), np.nan)
    some = [place for place, own in enumerate(answers.ids) if len(own)]
    if some:
        sequences = [join(prompts[place], answers.ids[place]) for place in some]
        found[some] = -force(dspa, sequences, [None])[0].log_prob
    return found


def distinct(ids: Int64[Tensor, " tokens"], n: int) -> float:
    """Share of different n-grams among an answer's n-grams of tokens; NaN where it has none.

    >>> distinct(torch.tensor([5, 6, 5, 6]), 2)
    0.6666666666666666
    """
    grams = list(zip(*(ids[start:].tolist() for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")
