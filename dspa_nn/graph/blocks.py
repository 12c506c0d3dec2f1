# pyright: basic
"""What goes in and out of a decoder block."""

from typing import Any

import torch
from torch import Tensor


def hidden_states(output: Any) -> Tensor:
    """The hidden states in a decoder block's output, which may be a tuple."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden_states(output: Any, hidden: Tensor) -> Any:
    """A decoder block's output with other hidden states."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def without_autocast(hidden: Tensor):
    """A context in which tensors keep their dtypes: NDIF runs whole requests under autocast."""
    return torch.autocast(hidden.device.type, enabled=False)
