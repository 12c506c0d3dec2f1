"""`DSPA.plan`: what would be steered for a prompt, from one forward up to the input layer."""

from typing import Any

import torch

from dspa_nn.edit_log import Plan, plan_of
from dspa_nn.errors import SteeringError
from dspa_nn.graph.apply import begin
from dspa_nn.graph.count import stop
from dspa_nn.graph.trace import first

_OPTIONS = ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule")


def plan(dspa: Any, map: Any, prompt: Any, options: dict[str, Any]) -> Plan:
    """Plan as `DSPA.plan` says; `options` are the keywords of `apply`.

    Raises:
        SteeringError: an option that planning does not know, or a setting out of range.
    """
    extra = [options.pop(name, None) for name in ("only", "never", "planner")]
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise SteeringError(f"plan takes no {', '.join(unknown)}; it takes {', '.join(_OPTIONS)}")
    given = {name: options.get(name) for name in _OPTIONS} | {"positions": "response"}
    steerer = dspa.steerer(map, given, *extra)
    own = dspa.render(prompt)
    ids = own.prompt_ids.unsqueeze(0)
    mask = torch.ones_like(ids)
    steering = begin(steerer, ids, mask.bool(), [(ids[0], own.content)], None, True)
    block = dspa.model.get(dspa.paths[0])
    inputs = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad(), dspa.model.trace(inputs, use_cache=False):
        steering.read_prompt(first(block.output))
        stop()
    return plan_of(steering.record, 0)
