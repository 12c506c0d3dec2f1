"""`DSPA.plan`: what would be steered for a prompt, from one forward up to the input layer."""

from collections.abc import Mapping
from typing import Any

import torch
from nnsight import register, save

from dspa_nn.counts import shares_prompts, takes_positions
from dspa_nn.errors import SteeringError
from dspa_nn.graph.apply import begin
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.count import PromptReader
from dspa_nn.graph.encode import Encoder
from dspa_nn.models import evaluating, require_weights, torch_module
from dspa_nn.prompts import is_batch, padded
from dspa_nn.shipping import TRAVELS
from dspa_nn.steering.options import PromptOrPrompts, Remote, plan_settings
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.plan import Plan, plan_of


def plan(
    dspa: ModelAndSAEs,
    map: object,
    prompt: PromptOrPrompts,
    options: Mapping[str, Any],
    remote: Remote = False,
) -> Plan | list[Plan]:
    """Plan as `DSPA.plan` says; `options` are the keywords of `PlanOptions`.

    A batch is laid out as `generate` does it, padded on the left, and run in one forward.

    Raises:
        SteeringError: a keyword that planning does not know, or a setting out of range.
    """
    check_outside_blocks("plan", None if remote else torch_module(dspa.model))
    given, chosen = plan_settings(options)
    if not remote:
        require_weights(dspa.model, "plan")
    steerer = dspa.steerer(map, given, **chosen)
    if steerer.plans is not None:
        raise SteeringError("plan was given a plan for its map; pass what fit returned")
    prompts = dspa.prompt_batch(prompt)
    if not prompts:
        raise SteeringError("plan was given an empty list of prompts; pass at least one prompt")
    inputs = padded([ids for ids, _ in prompts], "left")
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    steering = begin(steerer, ids, mask, prompts, None, True)
    steering.plan_from(_read(dspa, steerer.input_encoder, inputs, steering.counted, remote))
    plans = [plan_of(steering.record, row) for row in range(len(ids))]
    return plans if is_batch(prompt) else plans[0]


def _read(
    dspa: ModelAndSAEs,
    encoder: Encoder,
    inputs: dict[str, torch.Tensor],
    counted: torch.Tensor,
    remote: Remote,
) -> torch.Tensor:
    """Run the prompts up to the input layer, here or there; int32 [rows, d_in].

    counted: bool [rows, tokens]. Prompts without any token (an empty string, where the tokenizer
    puts no BOS in front) are not run: nothing is active on them.
    """
    written = inputs["attention_mask"].any(-1)
    if not bool(written.all()):
        counts = torch.zeros((len(written), encoder.width), dtype=torch.int32)
        if bool(written.any()):
            rows = {name: values[written] for name, values in inputs.items()}
            counts[written] = _read(dspa, encoder, rows, counted[written], remote)
        return counts
    model, path = dspa.model, f"{dspa.model.path}.{dspa.paths[0]}"
    mask = inputs["attention_mask"]
    passes = [(PromptReader(encoder, path, counted, follow=bool(remote)), inputs)]
    if len(mask) > 1 and not shares_prompts(model):
        # Some models with states of their own read padding as tokens.
        passes = [
            (
                PromptReader(encoder, path, counted[row : row + 1, real], follow=bool(remote)),
                {name: values[row : row + 1, real] for name, values in inputs.items()},
            )
            for row, real in enumerate(mask.bool())
        ]
    elif len(mask) > 1 and takes_positions(model):
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if not remote:
        found: list[torch.Tensor] = []
        with evaluating(model), torch.no_grad():
            for reader, rows in passes:
                with model.trace(rows, use_cache=False):
                    reader.read(found)
        return torch.cat(found)
    register(TRAVELS)
    with model.session(remote=remote):
        read = save([])
        for reader, rows in passes:
            with model.trace(rows, use_cache=False):
                reader.read(read)
    return torch.cat(read)
