"""A conversation on disk: what was said, the settings, and the last turn's plan."""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from dspa_nn.errors import FileError, SteeringError
from dspa_nn.files import read_pair, write_pair
from dspa_nn.graph.portable import PortablePlan
from dspa_nn.models import ModelFacts
from dspa_nn.progress import warn
from dspa_nn.steering.conversation.answering import Way
from dspa_nn.steering.plan import Plan
from dspa_nn.triples import Message, as_messages

VERSION = 1
_NAME = "conversation"


class Saved(NamedTuple):
    """What of a conversation is on disk.

    >>> Saved((), {"alpha": 0.5}, None, "attach", None).options
    {'alpha': 0.5}

    Attributes:
        messages: all that was said.
        options: keywords that it was begun with. seed: of its sampling, or None.
        through: which way it is run.
        plan: of the last turn, or None.
    """

    messages: tuple[Message, ...]
    options: dict[str, Any]
    seed: int | None
    through: Way
    plan: Plan | None


def write(folder: str | Path, saved: Saved, facts: ModelFacts) -> None:
    """Write a conversation, whole or not at all.

    >>> write("talk", Saved((), {}, None, "attach", None), dspa.facts)

    Raises:
        FileError: a full disk or a read-only folder.
    """
    options = {name: value for name, value in saved.options.items() if _is_json(value)}
    left = sorted(set(saved.options) - set(options))
    if left:
        warn(f"{', '.join(left)} cannot be saved with the conversation; give it to load(...) again")
    plan: Any = None if saved.plan is None else saved.plan.portable()
    named = cast(dict[str, Any], {} if plan is None else vars(plan))
    arrays = {name: tensor.numpy() for name, tensor in named.items() if torch.is_tensor(tensor)}
    about = {
        "messages": [dict(message) for message in saved.messages],
        "options": options,
        "seed": saved.seed,
        "through": saved.through,
        "model_id": facts.model_id,
        "plan": plan and json.loads(json.dumps(plan.options, default=str)),
    }
    write_pair(folder, _NAME, arrays, about, version=VERSION)


def read(folder: str | Path, facts: ModelFacts) -> Saved:
    """Read a conversation.

    >>> write("talk", Saved((), {}, 3, "attach", None), dspa.facts)
    >>> read("talk", dspa.facts).seed
    3

    Raises:
        FileError: no saved conversation, or a damaged one.
        SteeringError: one with another model.
    """
    arrays, about = read_pair(folder, _NAME, version=VERSION)
    if about["model_id"] != facts.model_id:
        raise SteeringError(
            f"the conversation in {folder} was held with {about['model_id']}, and this DSPA is of "
            f"{facts.model_id}; begin a new one with dspa.conversation(map, messages=...)"
        )
    try:
        plan = None
        if about["plan"] is not None:
            tensors: dict[str, Any] = arrays
            plan = Plan(PortablePlan(**tensors, options=about["plan"]))
        said = as_messages(about["messages"]) if about["messages"] else ()
        return Saved(said, about["options"], about["seed"], about["through"], plan)
    except (KeyError, TypeError) as error:
        raise FileError(
            f"the conversation in {folder} is not written as this version does it ({error}); save "
            "it again"
        ) from None


def _is_json(value: Any) -> bool:
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False
