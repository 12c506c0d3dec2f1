# pyright: basic
"""What `apply` does inside a tracing context, wherever that block runs."""

import torch

from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.steer import Steering
from dspa_nn.graph.trace import check_call, current_call, note_settings, start


def apply(steerer, paths, prompts, prompt_length, on_end=None):
    """Steer the call around the running block; return the record that the run will fill.

    paths: dotted paths of the input and output block, seen from the model. prompts: None, or one
    (ids, content) a row, int64 and bool over the prompt's real tokens. prompt_length: None, an
    int, or one a row.
    """
    mediator, call = current_call()
    ids, mask = check_call(call)
    steering = begin(steerer, ids, mask, prompts, prompt_length, call.generating, on_end)
    if call.generating:
        note_settings(steering.record, call.setting)
    start(mediator, call, steering, paths)
    return steering.record


def begin(steerer, ids, mask, prompts, prompt_length, generating, on_end=None):
    """Check what is known of the prompts against the rows, and make the run's state.

    ids, mask: int64 and bool [rows, tokens].
    """
    real = mask.sum(-1)
    if generating and prompt_length is not None:
        raise refuse(
            SteeringRefusal,
            "prompt_length is for trace; in generate the whole row is the prompt, so leave it out",
        )
    content = None
    source = "prompt="
    remedy = "pass prompt.ids to the model and the same prompt to apply"
    if steerer.plans is not None:
        if prompts is not None:
            raise refuse(
                SteeringRefusal,
                "prompt= came with a plan, which holds its own prompt; leave it out",
            )
        source, remedy = "plan", "pass to the model the prompt that dspa.plan was given"
        prompts = [(plan.ids, None) for plan in steerer.plans]
    if prompts is not None:
        if len(prompts) != len(ids):
            raise refuse(
                SteeringRefusal,
                f"{source} came with {len(prompts)} prompts for {len(ids)} rows; give one a row",
            )
        if prompt_length is not None:
            given = lengths(prompt_length, ids).tolist()
            known = [len(own) for own, _ in prompts]
            if given != known:
                raise refuse(
                    SteeringRefusal,
                    f"prompt_length is {given} and the prompts of prompt= have {known} tokens; "
                    "give one of the two",
                )
        for row, (own, _) in enumerate(prompts):
            seen = ids[row][mask[row]]
            seen = seen if generating else seen[: len(own)]
            if len(seen) != len(own) or not bool((seen == own.to(seen.device)).all()):
                raise refuse(
                    SteeringRefusal, f"row {row} does not hold the tokens of its {source}; {remedy}"
                )
        if steerer.plans is None and steerer.options["prompt_tokens"] == "content":
            content = [inside for _, inside in prompts]
        prompt_length = [len(own) for own, _ in prompts]
    if generating:
        prompt_length = None
    elif prompt_length is not None:
        prompt_length = lengths(prompt_length, ids)
    elif steerer.options["positions"] == "response":
        raise refuse(
            SteeringRefusal,
            "a single forward does not say where the prompt ends; give prompt_length= (in tokens, "
            "BOS included), prompt=, or positions='all'",
        )
    if prompt_length is not None:
        for row in range(len(ids)):
            if not 0 < int(prompt_length[row]) <= int(real[row]):
                raise refuse(
                    SteeringRefusal,
                    f"prompt_length is {int(prompt_length[row])} for row {row}, which has "
                    f"{int(real[row])} tokens; give 1 to {int(real[row])}",
                )
    return Steering(steerer, ids, mask, prompt_length, content, generating, on_end)


def lengths(value, ids):
    """Prompt lengths as int64 [rows], from an int or one a row."""
    try:
        found = torch.as_tensor(value, device=ids.device)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or (found.numel() and "int" not in str(found.dtype)):
        raise refuse(
            SteeringRefusal,
            f"prompt_length is {value!r}, and must be a number of tokens, or a list with one for "
            "each row",
        )
    found = found.to(torch.int64)
    if found.dim() == 0:
        found = found.expand(len(ids))
    if found.shape != (len(ids),):
        raise refuse(
            SteeringRefusal,
            f"prompt_length came with {found.numel()} values for {len(ids)} rows; give one int, or "
            "one for each row",
        )
    return found
