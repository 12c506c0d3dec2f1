"""The settings of one `apply`: filled in from preset or paper, checked, and made plain values."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from dspa_nn.graph import settings
from dspa_nn.graph.settings import DEFAULTS, PAPER, POSITIONS

__all__ = ["DEFAULTS", "PAPER", "POSITIONS", "allowed_latents", "check_options", "fill"]


def fill(given: Mapping[str, Any], *fallbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` with every None replaced from the first fallback that has the key."""
    return settings.fill(given, *fallbacks)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse settings out of range.

    Raises:
        SteeringError: names the setting, its value and its range.
    """
    settings.check_options(options)


def allowed_latents(
    only: Iterable[int] | None, never: Iterable[int] | None, d_out: int
) -> torch.Tensor | None:
    """Return bool [d_out], True where a latent may be chosen, or None where every one may.

    Raises:
        SteeringError: a latent that the output SAE does not have.
    """
    return settings.allowed_latents(only, never, d_out)
