"""The settings of one `apply`: filled in from preset or paper, checked, and made plain values."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from dspa_nn.errors import SteeringError
from dspa_nn.graph.select import MODES, PROMPT_RULES

# arXiv 2603.21461, section "Published settings" of the method page.
PAPER: dict[str, Any] = {
    "percentile": 90,
    "k_diff": 16,
    "alpha": 0.2,
    "k_prompt": 32,
    "mode": "ablate",
    "prompt_rule": "density",
    "prompt_tokens": "content",
}
POSITIONS = ("response", "all")


def fill(given: Mapping[str, Any], *fallbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` with every None replaced from the first fallback that has the key."""
    filled = {}
    for key, value in given.items():
        for fallback in (*fallbacks, PAPER):
            if value is None:
                value = fallback.get(key)
        filled[key] = value
    return filled


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse settings out of range.

    Raises:
        SteeringError: names the setting, its value and its range.
    """
    alpha = options["alpha"]
    if not _number(alpha) or not math.isfinite(alpha) or alpha < 0:
        raise SteeringError(f"alpha is {alpha!r}, and must be a finite number of at least 0")
    for name in ("k_prompt", "k_diff"):
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SteeringError(f"{name} is {value!r}, and must be a whole number of at least 1")
    for name, known in (("mode", MODES), ("prompt_rule", PROMPT_RULES), ("positions", POSITIONS)):
        if options[name] not in known:
            raise SteeringError(
                f"{name} is {options[name]!r}, and must be one of {', '.join(known)}"
            )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def allowed_latents(
    only: Iterable[int] | None, never: Iterable[int] | None, d_out: int
) -> torch.Tensor | None:
    """Return bool [d_out], True where a latent may be chosen, or None where every one may.

    Raises:
        SteeringError: a latent that the output SAE does not have.
    """
    if only is None and never is None:
        return None
    allowed = torch.full((d_out,), only is None)
    for name, latents, value in (("only", only, True), ("never", never, False)):
        for latent in () if latents is None else latents:
            if not 0 <= int(latent) < d_out:
                raise SteeringError(
                    f"{name}= names latent {int(latent)}, and the output SAE has latents 0 to "
                    f"{d_out - 1}"
                )
            allowed[int(latent)] = value
    return allowed
