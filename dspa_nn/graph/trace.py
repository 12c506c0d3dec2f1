# pyright: basic
"""How nnsight carries hidden states to a `Steering`: workers of our own beside the user's block.

A bare edit inside `generate` touches the first pass only, and a loop over `tracer.iter[:]` never
reaches the statements after it. So the loop over steps gets a worker of its own, and the block
that called `apply` goes on.
"""

from typing import Any

import torch
from nnsight.intervention.interleaver import Mediator, OutOfOrderError
from nnsight.intervention.iterator import getcurrent

from dspa_nn.graph.bypass import Rest
from dspa_nn.graph.refusals import SteeringRefusal, refuse

UNSUPPORTED = {
    "assistant_model": "assisted decoding takes drafted tokens back",
    "prompt_lookup_num_tokens": "prompt lookup takes drafted tokens back",
    "assistant_early_exit": "assisted decoding takes drafted tokens back",
    "use_mtp": "assisted decoding takes drafted tokens back",
    "prefill_chunk_size": "a chunked prefill never shows the prompt whole",
    "custom_generate": "a custom decoding loop may pass tokens in any order",
}


class Call:
    """The model call that a tracing context is about to make, and the rows that are ours."""

    def __init__(self, envoy, name, kwargs, group, invokes):
        self.envoy = envoy
        self.name = name
        self.kwargs = kwargs
        self.group = group
        self.invokes = invokes
        self.generating = name == "generate"

    def rows(self, key):
        """This block's rows of a tensor that the call was given, or None."""
        value = self.kwargs.get(key)
        if value is None or self.group is None or self.invokes < 2:
            return value
        return value[self.group[0] : self.group[0] + self.group[1]]

    def setting(self, key):
        """A generation setting as `generate` sees it: keyword, config, the model's config."""
        own = getattr(self.envoy._module, "generation_config", None)
        return setting_of(key, self.kwargs, own)


def setting_of(key, kwargs, own):
    """A generation setting from keywords, their generation_config, or the model's own."""
    if kwargs.get(key) is not None:
        return kwargs[key]
    for config in (kwargs.get("generation_config"), own):
        if getattr(config, key, None) is not None:
            return getattr(config, key)
    return None


def current_call():
    """The worker of the running block, and the model call around it."""
    mediator = getattr(getcurrent(), "mediator", None)
    if mediator is None:
        raise refuse(
            SteeringRefusal,
            "apply was called outside a tracing context; call it inside `with model.generate(...)`"
            ", `with model.trace(...)` or a `tracer.invoke(...)` of theirs",
        )
    mediator = mediator()
    # nnsight hands the assembled input to the model in `interleave` and keeps it nowhere else: the
    # frame that drives this worker is the one place where ids, mask and settings can be read.
    frame, outer = None, getcurrent().parent
    while outer is not None and frame is None:
        frame, outer = driving_frame(outer.gr_frame), outer.parent
    if frame is None:
        raise refuse(
            SteeringRefusal,
            "apply found no model call around it; call it directly inside the tracing context, "
            "not in a function that runs later",
        )
    seen = frame.f_locals
    name = getattr(seen["fn"], "__name__", str(seen["fn"]))
    batcher = seen["batcher"]
    return mediator, Call(
        seen["self"], name, dict(seen["kwargs"]), mediator.batch_group, len(batcher.invokes)
    )


def driving_frame(frame: Any):
    """The innermost frame of nnsight's `interleave` at or above `frame`, or None."""
    while frame is not None:
        if frame.f_code.co_name == "interleave" and "batcher" in frame.f_locals:
            return frame
        frame = frame.f_back
    return None


def check_call(call):
    """Refuse what cannot be steered exactly; return int64 ids and bool mask, [rows, tokens]."""
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
    if mask.shape != ids.shape:
        cached = mask.shape[-1] - ids.shape[-1]
        raise refuse(
            SteeringRefusal,
            f"the attention mask covers {cached} tokens that are already in a cache; pass the "
            "whole conversation with an empty cache, so that the prompt's latents can be read",
        )
    check_settings(call.setting, call.kwargs.get("past_key_values"), call.generating)
    if call.generating:
        check_padding(mask)
        expanded = (call.setting("num_beams") or 1) > 1 or (
            call.setting("num_return_sequences") or 1
        ) > 1
        if expanded and call.invokes > 1:
            raise refuse(
                SteeringRefusal,
                "beams and several returned sequences need one call for the whole batch; pass a "
                "list of prompts instead of several tracer.invoke blocks",
            )
    return ids, mask.bool()


def check_settings(setting, cache, generating):
    """Refuse settings that hide the prompt or the steps; setting: name -> value."""
    if cache is not None and filled(cache):
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


def note_settings(record, setting):
    """Note what the log must know of a generation: where rows end, and whether they move."""
    ends = setting("eos_token_id")
    record.eos_ids = [] if ends is None else torch.as_tensor(ends).flatten().tolist()
    record.beams = (setting("num_beams") or 1) > 1


def check_padding(mask):
    """Refuse right padding in generate: transformers itself then reads logits from a pad token."""
    if not bool(mask[:, -1].all()):
        raise refuse(
            SteeringRefusal,
            "the batch is padded on the right, and generate continues from the last position; set "
            "tokenizer.padding_side = 'left'",
        )


def filled(cache):
    """Whether a key-value cache holds any token."""
    length = getattr(cache, "get_seq_length", None)
    return bool(length()) if length is not None else len(cache) > 0


def first(output):
    """The hidden states in a decoder block's output, which may be a tuple."""
    return output[0] if isinstance(output, tuple) else output


def exact(hidden):
    """Arithmetic in the tensors' own dtypes: NDIF runs whole requests under autocast."""
    return torch.autocast(hidden.device.type, enabled=False)


def replaced(output, hidden):
    """A decoder block's output with other hidden states."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


class StepWorker(Mediator):
    """Carries every pass through the two layers to a `Steering`.

    root, block: the called module, and the output layer in it.
    """

    def __init__(self, steering, input_location, output_location, root, block):
        Mediator.__init__(self, None, {}, {})
        self.steering = steering
        self.input_location = input_location
        self.output_location = output_location
        self.rest = Rest(self, root, block)

    def _run(self):
        try:
            if self.steering.steerer.plans is None:
                hidden = first(Mediator.value(self.input_location))
                with exact(hidden):
                    self.steering.read_prompt(hidden)
            step = 0
            while True:
                # Pinned, since a relaxed request would be served the same visit again.
                self.iteration = step
                output = Mediator.value(self.output_location)
                hidden = first(output)
                with exact(hidden):
                    edited = self.steering.edit(hidden)
                if edited is not hidden:
                    Mediator.swap(self.output_location, replaced(output, edited))
                if not self.steering.record.generating:
                    return self.steering.finish()
                step += 1
                self.rest.begin()
        except OutOfOrderError:
            # The run is over: no further step, or it was stopped before it came this far.
            self.steering.finish()
        finally:
            self.rest.end()


class ResultWorker(Mediator):
    """Hands the finished sequences to a `Steering`, for the log."""

    def __init__(self, steering):
        Mediator.__init__(self, None, {}, {})
        self.steering = steering

    def _run(self):
        try:
            result = Mediator.value("result")
        except OutOfOrderError:
            return
        self.steering.finish(getattr(result, "sequences", result))


def start(mediator, call, steering, paths):
    """Start the workers of one `apply` beside the block that called it.

    paths: the two decoder blocks, seen from the called envoy.
    """
    interleaver = mediator.interleaver
    locations = [f"{call.envoy.path}.{path}.output" for path in paths]
    for location in locations if steering.steerer.plans is None else locations[1:]:
        if mediator.occurrence(location):
            raise refuse(
                SteeringRefusal,
                f"apply was called after {location} had run; call it first in the block, before "
                "any later layer is read",
            )
    for other in interleaver.mediators:
        same = isinstance(other, StepWorker) and other.output_location == locations[1]
        if same and overlap(other.batch_group, call.group):
            raise refuse(
                SteeringRefusal,
                f"two apply calls would steer {locations[1]} in the same rows; use one, with a "
                "map that is the sum of both",
            )
    root, block = call.envoy._module, call.envoy.get(paths[1])._module
    workers: list[Mediator] = [StepWorker(steering, locations[0], locations[1], root, block)]
    if call.generating:
        workers.append(ResultWorker(steering))
    # Before the block's own worker: what it reads of the layer after `apply` is the steered value.
    place = interleaver.mediators.index(mediator)
    for worker in reversed(workers):
        worker.batch_group = call.group
        interleaver.mediators.insert(place, worker)
        worker.start(interleaver)


def overlap(one, other):
    """Whether two row groups [start, size] share rows; None is the whole batch."""
    if one is None or other is None:
        return True
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
