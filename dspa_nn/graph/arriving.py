# pyright: basic
"""What decides on arrival, here or on a server, which object a pickled one becomes."""

from typing import Any

from torch import Tensor

from dspa_nn.graph.adapter import look_up


def arrive(path: str, state: dict[str, Any], stand_in: type[Any], parts: dict[str, Any]) -> Any:
    """The object itself where its class can be imported, else what stands in for it.

    path: the dotted path of the class; state: the attributes of the object; stand_in, parts: the
    class that stands in for it, and its arguments.
    """
    try:
        kind = look_up(path)
    except ImportError:
        return stand_in(**parts)
    item = kind.__new__(kind)
    vars(item).update(state)
    return item


class Returned:
    """An edit log on its way home: it arrives as an `EditLog`, or as what `home` makes of it."""

    def __init__(self, record, home="dspa_nn.steering.warnings.received"):
        self.record = record
        self.home = home

    def __getattr__(self, name):
        raise AttributeError(f"{name} was read on the server; read the edit log after the block")

    def __reduce__(self):
        return Named(self.home), (on_cpu(vars(self.record)),)


class Named:
    """A function that is known here by its path alone: pickled, it is looked up on arrival."""

    def __init__(self, path: str):
        self.path = path

    def __call__(self, *args):
        """Look the function up, where the toolkit is installed, and call it."""
        return look_up(self.path)(*args)

    def __reduce__(self):
        return look_up, (self.path,)


def on_cpu(value) -> Any:
    """The same value with a copy of every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(item) for item in value)
    return value
