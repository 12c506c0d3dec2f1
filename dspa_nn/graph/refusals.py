# pyright: basic
"""What is refused while a block runs: one class for each of the toolkit's errors that it becomes.

A block may run on a server that has no `dspa_nn`. Code in `graph/` therefore raises `refuse(...)`,
which is the toolkit's own error where that can be imported, and a class of this module elsewhere.
`dspa_nn/ndif/messages.py` turns such a class into the toolkit's error on the user's machine.
"""

from nnsight.util import from_import_path


class SteeringRefusal(ValueError):
    """A run that cannot be steered as asked."""

    error = "dspa_nn.errors.SteeringError"


class MapRefusal(ValueError):
    """A map that cannot be used with this model or these SAEs."""

    error = "dspa_nn.errors.MapError"


class CountsRefusal(ValueError):
    """Activations that cannot be counted."""

    error = "dspa_nn.errors.CountsError"


REFUSALS = (SteeringRefusal, MapRefusal, CountsRefusal)


def refuse(kind, text):
    """The exception to raise: the toolkit's error for this kind of refusal where it is installed.

    >>> raise refuse(SteeringRefusal, "alpha is -1, and must be a finite number of at least 0")
    """
    try:
        error = from_import_path(kind.error)
    except ImportError:
        error = kind
    return error(text)
