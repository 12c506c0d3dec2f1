# pyright: basic
"""What is refused while a block runs: one class for each of the toolkit's errors that it becomes.

A block may run on a server that has no `dspa_nn`. Code in `graph/` therefore raises `refuse(...)`,
which is the toolkit's own error where that can be imported, and a class of this module elsewhere.
`dspa_nn/ndif/messages.py` turns such a class into the toolkit's error on the user's machine.
"""

from dspa_nn.graph.adapter import look_up


class SteeringRefusal(ValueError):
    """A run that cannot be steered as asked."""

    error = "dspa_nn.errors.SteeringError"


class MapRefusal(ValueError):
    """A map that cannot be used with this model or these SAEs."""

    error = "dspa_nn.errors.MapError"


class CountsRefusal(ValueError):
    """Activations that cannot be counted."""

    error = "dspa_nn.errors.CountsError"


class ExtensionRefusal(ValueError):
    """A user's rule that returned what no run can be steered by."""

    error = "dspa_nn.errors.ExtensionError"


REFUSALS = (SteeringRefusal, MapRefusal, CountsRefusal, ExtensionRefusal)


def refuse(kind, text: str) -> Exception:
    """The exception to raise: the toolkit's error for this kind of refusal where it is installed.

    >>> raise refuse(SteeringRefusal, "alpha is -1, and must be a finite number of at least 0")
    Traceback (most recent call last):
    dspa_nn.errors.SteeringError: alpha is -1, and must be a finite number of at least 0
    """
    try:
        error = look_up(kind.error)
    except ImportError:
        error = kind
    return error(text)
