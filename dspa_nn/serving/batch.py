"""One call of `generate` for the answers of a batch, each steered, sampled and ended on its own."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from dspa_nn.errors import DSPAError, ServingError
from dspa_nn.imports import untyped
from dspa_nn.models import evaluating
from dspa_nn.prompts import padded
from dspa_nn.serving.answer import Answer
from dspa_nn.serving.sampling import Sampling, choose_by_rows
from dspa_nn.steering import DSPA, MixedRows

_ENDED = Sampling()


def run_batch(dspa: DSPA, hf_model: Any, rows: Sequence[Answer]) -> None:
    """Make the answers of a batch; each is delivered as it comes.

    Example:
        >>> from dspa_nn.serving import TextStream
        >>> heard, text = [], TextStream(tokenizer)
        >>> answer = Answer(prompt, None, None, Sampling(), text, 3, False, False, heard.append)
        >>> run_batch(dspa, hf_model, [answer])
        >>> heard[-1].completion_tokens <= 3
        True

    A batch without a steered row runs without hooks. Of the model's generation config only the
    tokens that end a turn count.
    """
    facts, steerers = dspa.facts, [row.steerer for row in rows]
    pad = facts.tokenizer.pad_token_id
    pad = 0 if pad is None else pad
    inputs = padded([row.prompt.prompt_ids for row in rows], "left", pad)
    steering: Any = nullcontext()
    if any(steerer is not None for steerer in steerers):
        steering = MixedRows(dspa, steerers, [row.prompt for row in rows])
    transformers: Any = untyped("transformers")
    with evaluating(hf_model), torch.no_grad(), _without_own_config(hf_model), steering as log:
        hf_model.generate(
            **{name: values.to(hf_model.device) for name, values in inputs.items()},
            max_new_tokens=max(row.max_tokens for row in rows),
            do_sample=False,  # the processor's scores are such that their maximum is the draw
            pad_token_id=pad,
            eos_token_id=list(facts.eos_ids) or None,
            logits_processor=transformers.LogitsProcessorList([_Sampler(rows)]),
            stopping_criteria=transformers.StoppingCriteriaList([_Ends(rows, facts.eos_ids, log)]),
        )
    for row in rows:  # none, unless something else than its rows ended the call
        row.fail(generation_failed(RuntimeError("generate returned before the answer had ended")))


@contextmanager
def _without_own_config(hf_model: Any) -> Generator[None]:
    """Take the model's generation config away, which fills what a call of `generate` leaves out.

    Rows have samplings of their own, and a limit of time or a penalty in it would be of all rows.
    """
    transformers: Any = untyped("transformers")
    own = hf_model.generation_config
    hf_model.generation_config = transformers.GenerationConfig()
    try:
        yield
    finally:
        hf_model.generation_config = own


class _Sampler:
    """A logits processor of transformers: each row by its own sampling."""

    def __init__(self, rows: Sequence[Answer]) -> None:
        self._rows = rows

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        largest: Any = scores.amax(-1)
        finite: list[bool] = largest.isfinite().tolist()
        for row, good in zip(self._rows, finite, strict=True):
            if not good:
                row.fail(_not_finite(row))
        # A row that is over draws nothing.
        return choose_by_rows([_ENDED if row.over else row.sampling for row in self._rows], scores)


def generation_failed(error: Exception) -> ServingError:
    """What is told of an answer that something else than its request kept from being made.

    Example:
        >>> generation_failed(MemoryError("no room")).status
        500
    """
    said = str(error) if isinstance(error, DSPAError) else f"{type(error).__name__}: {error}"
    failure = f"the model could not answer: {said}"
    return ServingError(failure, status=500, code="generation_failed")


def _not_finite(row: Answer) -> ServingError:
    """What is told of an answer for whose next token the model gave no numbers."""
    alpha = None if row.steerer is None else row.steerer.options["alpha"]
    told = "without steering" if alpha is None else f"with alpha {alpha:g}"
    remedy = "see the model's dtype" if alpha is None else "give a smaller alpha"
    return ServingError(
        f"{told} the model's next-token logits are infinite or not a number; {remedy}",
        status=500 if alpha is None else 400,
        param=None if alpha is None else "alpha",
        code="not_finite",
    )


class _Ends:
    """A stopping criterion of transformers: it hands each row its token, and says which are over.

    Between two steps is also where an answer that nobody waits for any more is noticed.
    """

    def __init__(self, rows: Sequence[Answer], ends: Sequence[int], log: MixedRows | None) -> None:
        self._rows, self._ends, self._log = rows, ends, log

    def __call__(self, ids: Tensor, scores: object, **_: object) -> Tensor:
        last: Any = ids[:, -1]
        tokens: list[int] = last.tolist()
        for place, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            try:
                row.add(token, self._ends, place, self._log)
            except Exception as error:  # noqa: BLE001  # the other rows go on
                row.fail(generation_failed(error))
        return torch.tensor([row.over for row in self._rows], device=ids.device)
