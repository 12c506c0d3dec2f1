"""The model class `dspa` of lm-evaluation-harness: its own Hugging Face class, steered."""

import inspect
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dspa_nn.checks import check_names
from dspa_nn.errors import EvaluationError
from dspa_nn.graph.settings import APPLY_SETTINGS
from dspa_nn.imports import late, untyped
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import as_local
from dspa_nn.personas import read_map
from dspa_nn.progress import show_progress
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, DSPAMethod, SteeringMethod

NAME = "dspa"
TAKES = "preset or dspa, map or method, settings of the steering, and what lm-eval's class hf takes"
# lm-eval's request: the texts, the context's ids, the continuation's ids.
Request = tuple[tuple[str, str], list[int], list[int]]


@cache
def model_class() -> Any:
    """Make lm-eval know the model class `dspa`, and return it.

    Example:
        >>> lm = model_class()(dspa=dspa, method=method, batch_size=8)  # doctest: +SKIP

    It is lm-eval's class `hf` with three differences. Where a request has a context and a
    continuation, steering starts at the border: the context's last token is the first that is
    steered, since it decides the continuation's first. Padding is masked, so that it counts
    nowhere. lm-eval's `logits_cache` is off: where two requests share all tokens and differ in the
    border alone, it returns the scores of one for both (and does so for unsteered models too).

    Its arguments, as `--model_args` or in Python:
        preset: names model and SAEs; or `dspa`, a `DSPA` that is there already.
        map: folder or hub id of a map, a persona's JSON file, or a map; without one the model is
            unsteered.
        method: any `SteeringMethod`, in place of a map.
        alpha, k_prompt, k_diff, mode, prompt_rule, positions: settings of the steering.
        batch_size, max_length, ...: what lm-eval's class `hf` takes; `auto` is refused.

    Raises:
        EvaluationError: lm-eval is not installed, or arguments that do not go together.
    """
    try:
        late("anyio")
        hf_class: Any = untyped("lm_eval.models.huggingface").HFLM
        register: Any = untyped("lm_eval.api.registry").register_model
    except ImportError:
        raise EvaluationError(
            "lm-evaluation-harness is not installed; pip install 'dspa-nn[lm-eval]'"
        ) from None

    # What else its class takes is for loading a model, and ours is loaded.
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    taken = inspect.signature(hf_class.__init__).parameters.values()
    known = (*APPLY_SETTINGS, *(own.name for own in taken if own.kind in plain))

    @register(NAME)
    class DSPAModel(hf_class):
        """lm-eval's Hugging Face model, with a steering method around each pass."""

        def __init__(
            self,
            dspa: DSPA | None = None,
            method: SteeringMethod | None = None,
            *,
            preset: str | None = None,
            map: ConditionalDifferenceMap | str | None = None,
            batch_size: int | str = 1,
            **options: Any,
        ) -> None:
            size = str(batch_size)
            if not size.isdecimal() or int(size) < 1:
                raise EvaluationError(
                    f"batch_size is {batch_size!r}; give a whole number of rows for the model "
                    "class dspa, which plans its batches itself."
                )
            settings = {name: options.pop(name) for name in APPLY_SETTINGS if name in options}
            self._built = _build(dspa, preset, str(options.get("pretrained", "")))
            self._method = _method(self._built, method, map, settings)
            options.pop("pretrained", None)
            check_names("the model class dspa", options, known, EvaluationError, TAKES)
            self._prompt_lengths: list[int] | None = None
            self._lengths: list[int] = []
            base: Any = super()
            base.__init__(
                pretrained=as_local(self._built.model),
                tokenizer=self._built.facts.tokenizer,
                logits_cache=False,
                batch_size=int(size),
                **options,
            )

        def _loglikelihood_tokens(
            self, requests: list[Request], disable_tqdm: bool = False, override_bs: Any = None
        ) -> list[tuple[float, bool]]:
            # One batch at a time, in the order that the base class sorts a batch into: only here
            # is it known where a row's context ends.
            order = sorted(range(len(requests)), key=lambda index: _sort_key(requests[index]))
            answers: list[Any] = [None] * len(requests)
            base: Any = super()
            size = int(self.batch_size)
            shown = show_progress(
                "log-likelihoods", len(requests), "requests", False if disable_tqdm else None
            )
            with shown as advance:
                for start in range(0, len(order), size):
                    chosen = order[start : start + size]
                    chunk = [requests[index] for index in chosen]
                    kept = [min(len(c) + len(r), self.max_length + 1) for _, c, r in chunk]
                    self._lengths = [length - 1 for length in kept]
                    self._prompt_lengths = [
                        length - len(r) for length, (_, _, r) in zip(kept, chunk, strict=True)
                    ]
                    try:
                        scored: list[Any] = base._loglikelihood_tokens(chunk, True)
                    finally:
                        self._prompt_lengths = None
                    for index, answer in zip(chosen, scored, strict=True):
                        answers[index] = answer
                    advance(len(chunk))
            return answers

        def _model_call(
            self, inps: Int64[Tensor, "rows tokens"], *other: Any, **named: Any
        ) -> Float[Tensor, "rows tokens vocabulary"]:
            lengths, prompt_lengths = self._lengths, self._prompt_lengths
            if prompt_lengths is None:
                base: Any = super()
                return base._model_call(inps, *other, **named)
            mask = torch.zeros_like(inps)
            for row, length in enumerate(lengths):
                mask[row, :length] = 1
            rows = [row[:length] for row, length in zip(inps, lengths, strict=True)]
            with torch.no_grad(), self._steered(rows, prompt_lengths):
                return self.model(inps, attention_mask=mask).logits

        def _model_generate(
            self, context: Int64[Tensor, "rows tokens"], *other: Any, **named: Any
        ) -> Int64[Tensor, "rows more_tokens"]:
            mask = named.get("attention_mask")
            rows = [
                row if mask is None else row[mask[index].bool()]
                for index, row in enumerate(context)
            ]
            base: Any = super()
            with self._steered(rows, [len(row) for row in rows]):
                return base._model_generate(context, *other, **named)

        @contextmanager
        def _steered(
            self, rows: Sequence[Int64[Tensor, " _"]], prompt_lengths: Sequence[int]
        ) -> Generator[None]:
            prompts = [
                _prompt(self._built, row[:length].cpu())
                for row, length in zip(rows, prompt_lengths, strict=True)
            ]
            around: Any = nullcontext() if self._method is None else self._method.steering(prompts)
            with around:
                yield

    return DSPAModel


def _sort_key(request: Request) -> tuple[int, tuple[int, ...]]:
    """lm-eval's own key: the longest first, then by ids."""
    ids = (*request[1], *request[2])
    return -len(ids), ids


def _build(dspa: DSPA | None, preset: str | None, pretrained: str) -> DSPA:
    if pretrained:
        raise EvaluationError(
            f"pretrained={pretrained} came; the model class dspa takes its model from preset= or "
            "dspa=, since SAEs go with it."
        )
    if (dspa is None) == (preset is None):
        raise EvaluationError("give either preset= or dspa=, which name the model and its SAEs")
    return dspa if dspa is not None else DSPA.from_preset(str(preset))


def _method(
    dspa: DSPA,
    method: SteeringMethod | None,
    map: ConditionalDifferenceMap | str | None,
    settings: dict[str, Any],
) -> SteeringMethod | None:
    if map is None:
        if settings:
            raise EvaluationError(
                f"{', '.join(settings)} came without map=; give the map that is steered with"
            )
        return method
    if method is not None:
        raise EvaluationError("map= and method= came; give the one that steers")
    fitted = read_map(map) if isinstance(map, str) else map
    options: Any = settings
    return DSPAMethod(NAME, dspa, fitted, options)


def _prompt(dspa: DSPA, ids: Int64[Tensor, " prompt"]) -> Rendered:
    """A context of ids as a prompt: text, so content throughout."""
    tokenizer = dspa.facts.tokenizer
    bos = tokenizer.bos_token_id
    return Rendered(
        text=str(tokenizer.decode(ids)),
        ids=ids.to(torch.int64),
        prompt_length=len(ids),
        content=torch.ones(len(ids), dtype=torch.bool),
        has_bos=bos is not None and len(ids) > 0 and int(ids[0]) == bos,
    )
