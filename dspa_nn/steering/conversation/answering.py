"""One steered answer: `generate` under plain hooks or in nnsight, from a cache or without."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int64
from nnsight import save
from torch import Tensor

from dspa_nn.graph.apply import apply
from dspa_nn.graph.calls import setting_of
from dspa_nn.graph.record import Earlier
from dspa_nn.models import ModelFacts
from dspa_nn.prompts import Rendered
from dspa_nn.steering.attaching import Attachment
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import run_settings
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.warnings import warn_beforehand, warn_if_unsteered

Way = Literal["attach", "apply"]


class Task(NamedTuple):
    """What one run of the model is given.

    Attributes:
        prompt: the whole conversation, rendered.
        map: the map to steer by. steering: settings of the run. generation: keywords of `generate`.
        cache: a filled cache of all but the last prompt token, and `earlier`, what is known of
            these tokens; or None for both, where the prompt is run whole.
    """

    prompt: Rendered
    map: Any
    steering: dict[str, Any]
    generation: dict[str, Any]
    cache: Any = None
    earlier: Earlier | None = None


def answered(
    dspa: ModelAndSAEs, model: Any, facts: ModelFacts, task: Task, way: Way
) -> tuple[Int64[Tensor, " new"], EditLog]:
    """Generate one answer; return its ids and the edits.

    >>> task = Task(prompt, map, {"alpha": 0.5}, {"max_new_tokens": 3})
    >>> ids, edits = answered(dspa, hf_model, dspa.facts, task, "attach")
    >>> len(ids), edits.steps
    (3, 3)

    Args:
        dspa: the model and its SAEs. model, facts: the Hugging Face model behind it, and its facts.
        task: what to run.
        way: by plain hooks ("attach") or in nnsight ("apply"): the same tokens.
    """
    generation = dict(task.generation)
    if task.cache is not None:
        beams = setting_of("num_beams", generation, model.generation_config) or 1
        if beams > 1:
            task.cache.batch_repeat_interleave(beams)
        generation["past_key_values"] = task.cache
    ids = task.prompt.prompt_ids.unsqueeze(0).to(model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    run = _hooked if way == "attach" else _traced
    sequences, log = run(dspa, model, facts, task, inputs, generation)
    return sequences[0, ids.shape[1] :].cpu(), log


def _hooked(
    dspa: ModelAndSAEs, model: Any, facts: ModelFacts, task: Task,
    inputs: dict[str, Tensor], generation: dict[str, Any],
) -> tuple[Tensor, EditLog]:  # fmt: skip
    options: Any = {**task.steering, "prompt": task.prompt}
    with Attachment(dspa, model, facts, task.map, options, task.earlier) as attachment:
        result: Any = model.generate(**inputs, **generation)
    return getattr(result, "sequences", result), attachment.logs[-1]


def _traced(
    dspa: ModelAndSAEs, _: Any, facts: ModelFacts, task: Task,
    inputs: dict[str, Tensor], generation: dict[str, Any],
) -> tuple[Tensor, EditLog]:  # fmt: skip
    given, chosen = run_settings("apply", task.steering)
    steerer = dspa.steerer(task.map, given, **chosen)
    steerer.earlier = task.earlier
    prompts = dspa.prompt_batch(task.prompt)
    model: Any = dspa.model
    with model.generate(inputs, **generation) as tracer:
        record = apply(steerer, dspa.paths, prompts, None, warn_if_unsteered)
        warn_beforehand(record)
        log = save(EditLog(record, facts.tokenizer))
        result: Any = tracer.result.save()
    return getattr(result, "sequences", result), log


def stopped_by(stop: Callable[[], bool]) -> Callable[..., Tensor]:
    """A stopping criterion of `generate`: every row ends as soon as `stop()` is true.

    >>> criterion = stopped_by(lambda: True)
    >>> criterion(torch.zeros((1, 4), dtype=torch.int64), None)
    tensor([True])
    """

    def criterion(ids: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.full((len(ids),), stop(), dtype=torch.bool, device=ids.device)

    return criterion
