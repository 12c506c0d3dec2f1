# pyright: basic
"""Which calls of a model can be steered, whether nnsight or plain hooks see them."""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.adapter import call_of, running_worker
from dspa_nn.graph.loops import loops_over_steps
from dspa_nn.graph.refusals import SteeringRefusal, refuse

UNSUPPORTED = {
    "assistant_model": "assisted decoding takes drafted tokens back",
    "prompt_lookup_num_tokens": "prompt lookup takes drafted tokens back",
    "assistant_early_exit": "assisted decoding takes drafted tokens back",
    "use_mtp": "assisted decoding takes drafted tokens back",
    "prefill_chunk_size": "a chunked prefill never shows the prompt whole",
    "custom_generate": "a custom decoding loop may pass tokens in any order",
}


def check_outside_blocks(what: str, module: Any = None) -> None:
    """Refuse to run the model inside a tracing context, which is about to run it itself.

    module: the torch module, where what is read must be unsteered: inside `attach` it is not.
    """
    if running_worker() is not None:
        raise refuse(
            SteeringRefusal,
            f"{what} was called inside a tracing context, and runs the model itself; call it "
            "before the `with` statement",
        )
    if module is not None and any(attached(part) for part in module.modules()):
        raise refuse(
            SteeringRefusal,
            f"{what} was called while attach steers the model, and reads the unsteered model; call "
            "it outside that context",
        )


def current_call() -> Any:
    """The model call around the running block."""
    worker = running_worker()
    if worker is None:
        raise refuse(
            SteeringRefusal,
            "apply was called outside a tracing context; call it inside `with model.generate(...)`"
            ", `with model.trace(...)` or a `tracer.invoke(...)` of theirs",
        )
    call = call_of(worker)
    if call is None:
        raise refuse(
            SteeringRefusal,
            "apply found no model call around it; call it directly inside the tracing context, "
            "not in a function that runs later",
        )
    if loops_over_steps(worker):
        raise refuse(
            SteeringRefusal,
            "apply was called inside a loop over tracer.iter or tracer.all(), and steers every "
            "step of the run by itself; call it once, before the loop",
        )
    return call


def compiled(module) -> bool:
    """Whether torch.compile was given a module, or its forward."""
    if getattr(module, "_compiled_call_impl", None) is not None:
        return True
    if "_orig_mod" in vars(module).get("_modules", {}):
        return True
    forward = vars(module).get("forward", type(module).forward)
    while forward is not None:
        if hasattr(forward, "_torchdynamo_orig_callable"):
            return not getattr(forward, "_torchdynamo_disable", False)
        forward = getattr(forward, "__wrapped__", None)
    return False


def compiled_parts(module: Any, paths: Any) -> list[Any]:
    """The parts of a model that are compiled and hold a steered layer, or are one.

    module: the called one; paths: dotted, of the steered layers in it.
    """
    parts = [module]
    for path in paths:
        part = module
        for name in path.split("."):
            part = getattr(part, name)
            parts.append(part)
    return [part for part in parts if compiled(part)]


def check_compiled(module: Any, paths: Any) -> None:
    """Refuse a model of which `compiled_parts` finds any; paths: as there."""
    for part in compiled_parts(module, paths):
        raise refuse(
            SteeringRefusal,
            f"{type(getattr(part, '_orig_mod', part)).__name__} was compiled with torch.compile, "
            "and compiled code leaves steered layers out without a word; load the model anew and "
            "steer it without torch.compile",
        )


def check_carriers(module: Any, paths: Any) -> None:
    """Refuse a run of `apply` in a model that `attach` steers already: it would be edited twice."""
    for path in paths:
        if attached(module.get_submodule(path)):
            raise refuse(
                SteeringRefusal,
                "the model is steered by attach already, and apply would edit it a second time; "
                "leave the context of attach first",
            )


def attached(module: Any) -> bool:
    """Whether `attach` has a hook on a module."""
    return any(
        getattr(getattr(hook, "__self__", None), "steers", False)
        for hook in vars(module).get("_forward_hooks", {}).values()
    )


def would_compile(setting: Any, cache: Any) -> bool:
    """Whether `generate` may compile the model for its later steps, which no hook would see.

    setting: a function, name -> value. cache: the key-value cache that was given, or None.
    """
    asked = setting("compile_config") is not None or setting("cache_implementation") is not None
    return (asked or cache is not None) and not setting("disable_compile")


def says_compile(setting: Any, device: Any) -> bool:
    """Whether somebody who passed these settings counts on a compiled run."""
    static = any(part in str(setting("cache_implementation")) for part in ("static", "hybrid"))
    return setting("compile_config") is not None or (static and str(device) != "cpu")


def setting_of(key: str, kwargs: dict[str, Any], config: Any) -> Any:
    """A generation setting from keywords, their generation_config, or the model's config."""
    if kwargs.get(key) is not None:
        return kwargs[key]
    for source in (kwargs.get("generation_config"), config):
        if getattr(source, key, None) is not None:
            return getattr(source, key)
    return None


def settings_of(call):
    """The generation settings of a call, as a function: name -> value."""
    config = getattr(call.module, "generation_config", None)
    return lambda key: setting_of(key, call.kwargs, config)


def check_call(call, earlier: Any = None) -> tuple[Tensor, Tensor]:
    """Refuse what cannot be steered exactly; return int64 ids and bool mask, [rows, tokens].

    earlier: an `Earlier`, where it is known what a filled cache holds.
    """
    if call.name == "pipe":
        raise refuse(
            SteeringRefusal,
            "apply works in generate and trace, not in pipe; use model.generate(...)",
        )
    ids = call.rows("input_ids")
    if ids is None:
        raise refuse(
            SteeringRefusal,
            "apply needs token ids to tell the prompt's tokens apart, and the call was given none; "
            "pass text, chat messages or input_ids",
        )
    if ids.dim() == 1:
        ids = ids.unsqueeze(0)
    mask = call.rows("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    cached = mask.shape[-1] - ids.shape[-1]
    if mask.shape != ids.shape and cached <= 0:
        raise refuse(
            SteeringRefusal,
            f"the attention mask is {list(mask.shape)} and the ids are {list(ids.shape)}; pass "
            "both as one call of the tokenizer returned them",
        )
    if cached:
        raise refuse(
            SteeringRefusal,
            f"the attention mask covers {cached} tokens that are already in a cache; pass the "
            "whole conversation with an empty cache, so that the prompt's latents can be read",
        )
    setting = settings_of(call)
    check_settings(setting, call.kwargs.get("past_key_values"), call.generating, earlier)
    if call.generating:
        check_padding(mask)
        copies = max(setting("num_beams") or 1, setting("num_return_sequences") or 1)
        if copies > 1 and call.blocks > 1:
            raise refuse(
                SteeringRefusal,
                "beams and several returned sequences need one call for the whole batch; pass a "
                "list of prompts instead of several tracer.invoke blocks",
            )
    return ids, mask.bool()


def check_settings(setting: Any, cache: Any, generating: bool, earlier: Any = None) -> None:
    """Refuse settings that hide the prompt or the steps; setting: a function, name -> value.

    earlier: an `Earlier`, where it is known what a filled cache holds.
    """
    held = 0 if cache is None else tokens_in(cache)
    if held and (earlier is None or held != earlier.tokens):
        raise refuse(
            SteeringRefusal,
            "the call was given a cache that already holds tokens, so the prompt's latents cannot "
            "be read; pass the whole conversation with an empty cache",
        )
    if not generating:
        return
    for key, reason in UNSUPPORTED.items():
        if setting(key):
            raise refuse(
                SteeringRefusal, f"{key} cannot be steered: {reason}; generate without {key}"
            )
    if (setting("guidance_scale") or 1) != 1:
        raise refuse(
            SteeringRefusal,
            "guidance_scale cannot be steered: guidance runs the model a second time at every "
            "step; generate without guidance_scale",
        )


def check_padding(mask: Tensor) -> None:
    """Refuse right padding in generate: transformers itself then reads logits from a pad token."""
    if not bool(mask[:, -1].all()):
        raise refuse(
            SteeringRefusal,
            "the batch is padded on the right, and generate continues from the last position; set "
            "tokenizer.padding_side = 'left'",
        )


def note_settings(record: Any, setting: Any) -> None:
    """Note what the log must know of a generation: where rows end, and whether they move."""
    ends = setting("eos_token_id")
    record.eos_ids = [] if ends is None else torch.as_tensor(ends).flatten().tolist()
    record.beams = (setting("num_beams") or 1) > 1


def tokens_in(cache) -> int:
    """Tokens that a key-value cache holds; of one that does not say, its layers stand for them."""
    length = getattr(cache, "get_seq_length", None)
    return int(length()) if length is not None else len(cache)
