# pyright: basic
"""What `apply` does inside a tracing context, wherever that block runs."""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.calls import (
    check_call,
    check_carriers,
    check_compiled,
    current_call,
    note_settings,
    says_compile,
    settings_of,
    would_compile,
)
from dspa_nn.graph.record import Record
from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.steer import Steering
from dspa_nn.graph.workers import start


def apply(steerer: Any, paths: Any, prompts: Any, prompt_length: Any, on_end: Any = None) -> Record:
    """Steer the call around the running block; return the record that the run will fill.

    paths: dotted paths of the input and output block, seen from the model. The rest is as in
    `begin`.
    """
    call = current_call()
    check_carriers(call.module, paths)
    check_compiled(call.module, paths)
    ids, mask = check_call(call, steerer.earlier)
    steering = begin(steerer, ids, mask, prompts, prompt_length, call.generating, on_end)
    if call.generating:
        setting = settings_of(call)
        note_settings(steering.record, setting)
        steering.record.training = call.module.training
        if would_compile(setting, call.kwargs.get("past_key_values")):
            steering.record.uncompiled = says_compile(setting, ids.device)
            call.set("disable_compile", True)
    start(call, steering, paths)
    return steering.record


def begin(
    steerer: Any,
    ids: Tensor,
    mask: Tensor,
    prompts: Any,
    prompt_length: Any,
    generating: bool,
    on_end: Any = None,
) -> Steering:
    """Check what is known of the prompts against the rows, and make the state of a run.

    ids, mask: int64 and bool [rows, tokens]. prompts: None, or (ids, content) for each row, int64
    and bool over the prompt's real tokens. prompt_length: None, an int, or one for each row.
    on_end: called with the record when the run is over.
    """
    if generating and prompt_length is not None:
        raise refuse(
            SteeringRefusal,
            "prompt_length is for trace; in generate the whole row is the prompt, so leave it out",
        )
    content = None
    source, remedy = "prompt=", "pass prompt.ids to the model and the same prompt to apply"
    if steerer.plans is not None:
        if prompts is not None:
            raise refuse(
                SteeringRefusal,
                "prompt= came with a plan, which holds its own prompt; leave it out",
            )
        source, remedy = "plan", "pass to the model the prompt that dspa.plan was given"
        prompts = [(plan.ids, None) for plan in steerer.plans]
    if prompts is not None:
        known = [prompt_ids for prompt_ids, _ in prompts]
        check_prompts(known, ids, mask, prompt_length, generating, source, remedy)
        # Where rows differ in it, it is a list of theirs.
        if steerer.plans is None and "content" in steerer.options["prompt_tokens"]:
            content = [inside for _, inside in prompts]
        prompt_length = [len(prompt_ids) for prompt_ids in known]
    if generating:
        prompt_length = None
    elif prompt_length is not None:
        prompt_length = lengths_of(prompt_length, ids)
        check_lengths(prompt_length, mask)
    elif steerer.options["positions"] == "response":
        raise refuse(
            SteeringRefusal,
            "a single forward does not say where the prompt ends; give prompt_length= (in tokens, "
            "BOS included), prompt=, or positions='all'",
        )
    if prompts is None and steerer.options["prompt_tokens"] == "content":
        content = read_content(steerer.content_of, ids, mask, prompt_length)
    kind = steerer.kind or Steering
    steering = kind(steerer, ids, mask, prompt_length, content, generating, on_end)
    if steerer.plans is not None:
        steering.record.empty = [
            row
            for row, plan in enumerate(steerer.plans)
            if not bool((plan.augment >= 0).any() | (plan.ablate >= 0).any())
        ]
    return steering


def read_content(content_of: Any, ids: Tensor, mask: Tensor, prompt_length: Any) -> Any:
    """Content of chat prompts that came as ids: for each row bool over its prompt, or None.

    content_of: what reads it from the real tokens of one prompt, or None where nothing does.
    """
    if content_of is None:
        return None
    real = [row[where] for row, where in zip(ids, mask, strict=True)]
    lengths = [len(row) for row in real] if prompt_length is None else prompt_length.tolist()
    return [content_of(row[:length]) for row, length in zip(real, lengths, strict=True)]


def check_prompts(
    prompts: list, ids: Tensor, mask: Tensor, prompt_length, generating: bool, source, remedy
) -> None:
    """Refuse prompts that are not those of the rows.

    prompts: int64 [tokens] each; source, remedy: where they came from, and what to do.
    """
    if len(prompts) != len(ids):
        raise refuse(
            SteeringRefusal,
            f"{source} came with {len(prompts)} prompts for {len(ids)} rows; give one a row",
        )
    if prompt_length is not None:
        given = lengths_of(prompt_length, ids).tolist()
        known = [len(prompt) for prompt in prompts]
        if given != known:
            raise refuse(
                SteeringRefusal,
                f"prompt_length is {given} and the prompts of prompt= have {known} tokens; "
                "give one of the two",
            )
    for row, prompt in enumerate(prompts):
        seen = ids[row][mask[row]]
        seen = seen if generating else seen[: len(prompt)]
        if len(seen) != len(prompt) or not bool((seen == prompt.to(seen.device)).all()):
            raise refuse(
                SteeringRefusal, f"row {row} does not hold the tokens of its {source}; {remedy}"
            )


def check_lengths(prompt_length: Tensor, mask: Tensor) -> None:
    """Refuse prompts that are empty, or longer than their rows.

    prompt_length: int64 [rows]; mask: bool [rows, tokens], the real ones.
    """
    for row, (length, real) in enumerate(
        zip(prompt_length.tolist(), mask.sum(-1).tolist(), strict=True)
    ):
        if not 0 < length <= real:
            raise refuse(
                SteeringRefusal,
                f"prompt_length is {length} for row {row}, which has {real} tokens; give 1 to "
                f"{real}",
            )


def lengths_of(value, ids: Tensor) -> Tensor:
    """Prompt lengths as int64 [rows], from an int or one for each row."""
    try:
        lengths = torch.as_tensor(value, device=ids.device)
    except (TypeError, ValueError, RuntimeError):
        lengths = None
    if lengths is None or (lengths.numel() and "int" not in str(lengths.dtype)):
        raise refuse(
            SteeringRefusal,
            f"prompt_length is {value!r}, and must be a number of tokens, or a list with one for "
            "each row",
        )
    lengths = lengths.to(torch.int64)
    if lengths.dim() == 0:
        lengths = lengths.expand(len(ids))
    if lengths.shape != (len(ids),):
        raise refuse(
            SteeringRefusal,
            f"prompt_length came with {lengths.numel()} values for {len(ids)} rows; give one int, "
            "or one for each row",
        )
    return lengths
