"""Whether a call changed the arguments that it was given, or what its object holds."""

import copy
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from dspa_nn.extensions.source import CONSTANTS


def copy_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments, in tensors of their own."""
    return {
        name: value.clone() if isinstance(value, Tensor) else copy.copy(value)
        for name, value in given.items()
    }


def version_of(value: Any) -> int:
    """How often a tensor was written to; 0 of anything else.

    >>> version_of(torch.zeros(2).add_(1))
    1
    """
    return value._version if isinstance(value, Tensor) else 0


def written_to(value: Any, before: Any) -> bool:
    """Whether a tensor holds other values than before: numpy's view of it counts no writes.

    >>> written_to(torch.ones(2), torch.zeros(2)), written_to(3, 4)
    (True, False)
    """
    if not (isinstance(value, Tensor) and isinstance(before, Tensor)):
        return False
    if value.shape != before.shape:
        return True
    return bool(((value != before) & ~((value != value) & (before != before))).any())


def snapshot(value: Any) -> Any:
    """What an object holds, in tensors and containers of its own.

    >>> snapshot({"seen": [1, 2]})
    {'seen': [1, 2]}
    """
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in cast(Any, value)]
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in cast(Any, value).items()}
    return set(cast(Any, value)) if isinstance(value, set) else value


def same(value: Any, before: Any) -> bool:
    """Whether a value is still what its snapshot was; of unknown kinds, whether it is that object.

    >>> seen = [1]
    >>> before = snapshot(seen)
    >>> seen[0] += 1
    >>> same(seen, before)
    False
    """
    if isinstance(value, Tensor):
        return isinstance(before, Tensor) and not written_to(value, before)
    if isinstance(value, (list, tuple)):
        items = cast(Any, value)
        return isinstance(before, list) and len(items) == len(cast(Any, before)) and all(
            map(same, items, cast(Any, before))
        )  # fmt: skip
    if isinstance(value, dict):
        held = cast(dict[Any, Any], value)
        return (
            isinstance(before, dict)
            and held.keys() == cast(Any, before).keys()
            and all(same(held[key], before[key]) for key in held)
        )
    return value is before or (isinstance(value, (set, *CONSTANTS)) and value == before)
