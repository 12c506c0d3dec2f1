"""Requests of a chat harness: their model arguments and settings, honoured or refused."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from dspa_nn.checks import check_names
from dspa_nn.errors import EvaluationError
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.settings import APPLY_SETTINGS
from dspa_nn.models import as_local, evaluating
from dspa_nn.personas import read_map
from dspa_nn.steering import DSPA, DSPAMethod, EditLog, SteeringMethod

# What a model of a harness is built from, beside the settings of the steering.
ARGUMENTS = ("dspa", "method", "map", "unsteered")
# Tokens of an answer where the harness does not say.
MAX_TOKENS = 256


class Built(NamedTuple):
    """What answers requests: a model with its SAEs, and how it is steered, if it is."""

    dspa: DSPA
    method: SteeringMethod | None


class Sampling(NamedTuple):
    """How an answer is generated.

    Attributes:
        max_tokens: of the answer, at most. temperature: 0 is greedy; None takes 1 where `top_p`
            or `top_k` is given, else greedy.
        top_p, top_k, seed: of the sampling, or None. stop: texts that end the answer.
    """

    max_tokens: int = MAX_TOKENS
    temperature: float | int | None = None
    top_p: float | int | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Answer(NamedTuple):
    """An answer, why it ended ("stop" or "max_tokens"), its tokens, and what was edited."""

    text: str
    ended: str
    tokens: tuple[int, int]
    edits: dict[str, Any] | None


def built_from(preset: str, arguments: Mapping[str, Any]) -> Built:
    """Build what a harness's model arguments name.

    Example:
        >>> built_from("tiny", {"dspa": dspa, "map": map, "alpha": 0.5}).method.options
        {'alpha': 0.5}

    Args:
        preset: names model and SAEs.
        arguments: `map`, a folder, a hub id, a persona's JSON file or a map; settings of the
            steering beside it (alpha, mode, ...); `unsteered`, in place of a map; in Python also
            `method`, any `SteeringMethod`, and `dspa`, a `DSPA` in place of the preset's.

    Raises:
        EvaluationError: an argument of none of these, or neither a map nor `unsteered`.
    """
    known = (*ARGUMENTS, *APPLY_SETTINGS)
    check_names("the provider dspa", arguments, known, EvaluationError)
    settings = {name: arguments[name] for name in APPLY_SETTINGS if name in arguments}
    map: Any = arguments.get("map")
    method: Any = arguments.get("method")
    unsteered = arguments.get("unsteered", False)
    if not isinstance(unsteered, bool):
        raise EvaluationError(f"unsteered is {unsteered!r}; expected true or false")
    given = [name for name in ("map", "method") if arguments.get(name) is not None]
    if unsteered:
        given.append("unsteered")
    if len(given) != 1:
        came = " and ".join(given) or "none"
        raise EvaluationError(
            f"of map, method and unsteered came {came}; give the map that steers, or unsteered=true"
        )
    if settings and map is None:
        raise EvaluationError(
            f"{', '.join(settings)} came with {given[0]}, and are settings of a map; leave them out"
        )
    dspa = arguments.get("dspa")
    dspa = DSPA.from_preset(preset) if dspa is None else dspa
    if map is not None:
        fitted = read_map(map) if isinstance(map, str) else map
        options: Any = settings
        method = DSPAMethod("dspa", dspa, fitted, options)
    return Built(dspa, method)


def answer_chat(built: Built, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Answer:
    """Answer one conversation, steered by the plan of its own prompt.

    Example:
        >>> built = built_from("tiny", {"dspa": dspa, "map": map})
        >>> answer = answer_chat(built, [{"role": "user", "content": "hi"}], Sampling(max_tokens=3))
        >>> answer.tokens[1], answer.edits["steps"]
        (3, 3)

    Raises:
        TripleError: messages that the chat template refuses.
        SteeringError: a model that is not loaded here.
    """
    dspa, method = built
    model: Any = as_local(dspa.model)
    check_outside_blocks("answer", model if method is None else None)
    tokenizer = dspa.facts.tokenizer
    prompt = dspa.render([dict(message) for message in messages])
    ids = prompt.prompt_ids.unsqueeze(0).to(model.device)
    pad = tokenizer.pad_token_id
    keywords: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": sampling.max_tokens,
        "pad_token_id": 0 if pad is None else pad,
        **_sampling(sampling),
    }
    if sampling.stop:
        keywords |= {"stop_strings": list(sampling.stop), "tokenizer": tokenizer}
    log: Any = None
    random: Any = torch.random
    devices = [model.device] if model.device.type == "cuda" else []
    with evaluating(model), torch.no_grad(), random.fork_rng(devices):
        if sampling.seed is not None:
            random.manual_seed(sampling.seed)
        else:
            random.seed()
        if method is None:
            made = model.generate(ids, **keywords)
        else:
            with method.steering([prompt]) as log:
                made = model.generate(ids, **keywords)
    new = made[0, ids.shape[1] :].cpu()
    ends = torch.nonzero(torch.isin(new, torch.tensor(dspa.facts.eos_ids, dtype=new.dtype)))
    said = tokenizer.decode(new[: int(ends[0])] if len(ends) else new, skip_special_tokens=True)
    text, stopped = _until(said, sampling.stop)
    ended = "stop" if stopped or len(ends) else "max_tokens"
    return Answer(text, ended, (ids.shape[1], len(new)), None if log is None else told(log))


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """Keywords of `generate`; the model's own configuration decides nothing of the sampling."""
    temperature = sampling.temperature
    if temperature is None and (sampling.top_p is not None or sampling.top_k is not None):
        temperature = 1.0
    if not temperature:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "top_k": 0 if sampling.top_k is None else sampling.top_k,
    }


def _until(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """A text up to the first of the texts that end it, which is left out."""
    found = [text.index(end) for end in stop if end in text]
    return (text[: min(found)], True) if found else (text, False)


def told(log: object) -> dict[str, Any]:
    """What an edit log says, as JSON: steps, edits, latents planned and moved, and its own words.

    Example:
        >>> with dspa.attach(hf_model, map, prompt=prompt) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> sorted(told(edits))
        ['ablate', 'augment', 'edits', 'latents', 'share', 'steps', 'text']
    """
    if not isinstance(log, EditLog):
        return {"text": str(log)}  # of a baseline, which has no latents
    [plan] = log.plans
    return {
        "steps": log.steps,
        "edits": log.total,
        "share": float(log.shares_by_row()[0]),
        "latents": {str(latent): times for latent, times in log.by_latent().items()},
        "augment": [int(latent) for latent, _ in plan.augment],
        "ablate": [int(latent) for latent, _ in plan.ablate],
        "text": str(log),
    }
