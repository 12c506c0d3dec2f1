# pyright: basic
"""The settings of one `apply`: filled in from preset or paper, checked, made plain values.

Here and not above, because on NDIF `apply` is called where only this room exists.
"""

import math
from typing import Any

import torch

from dspa_nn.graph.refusals import MapRefusal, SteeringRefusal, refuse
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
# What a map must share with the model and the SAEs that it is used with, in words.
OF_MAPS = {
    "model_id": "model",
    "model_revision": "model revision",
    "input_layer": "input layer",
    "output_layer": "output layer",
    "input_sae_sha256": "input SAE with SHA-256",
    "output_sae_sha256": "output SAE with SHA-256",
}


def fill(given, *fallbacks):
    """`given` with every None replaced from the first fallback that has the key."""
    filled = {}
    for key, value in given.items():
        for fallback in (*fallbacks, PAPER):
            if value is None:
                value = fallback.get(key)
        # numpy's and torch's scalars are numbers too.
        item = getattr(value, "item", None) if getattr(value, "ndim", None) == 0 else None
        filled[key] = value if item is None else item()
    return filled


def check_options(options):
    """Refuse settings out of range; the message names the setting, its value and its range."""
    alpha = options["alpha"]
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 <= alpha < math.inf:
        raise refuse(
            SteeringRefusal, f"alpha is {alpha!r}, and must be a finite number of at least 0"
        )
    for name in ("k_prompt", "k_diff"):
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise refuse(
                SteeringRefusal, f"{name} is {value!r}, and must be a whole number of at least 1"
            )
    for name, known in (("mode", MODES), ("prompt_rule", PROMPT_RULES), ("positions", POSITIONS)):
        if options[name] not in known:
            raise refuse(
                SteeringRefusal,
                f"{name} is {options[name]!r}, and must be one of {', '.join(known)}",
            )


def allowed_latents(only, never, d_out):
    """A bool [d_out], True where a latent may be chosen, or None where every one may."""
    if only is None and never is None:
        return None
    allowed = torch.full((d_out,), only is None)
    for name, latents, value in (("only", only, True), ("never", never, False)):
        for latent in () if latents is None else listed(name, latents):
            if not 0 <= int(latent) < d_out:
                raise refuse(
                    SteeringRefusal,
                    f"{name}= names latent {int(latent)}, and the output SAE has latents 0 to "
                    f"{d_out - 1}",
                )
            allowed[int(latent)] = value
    return allowed


def listed(name, latents):
    """Latents as a list; refused is what is none, as a mask of booleans."""
    single = isinstance(latents, str) or not hasattr(latents, "__iter__")
    single = single or getattr(latents, "ndim", 1) == 0
    found = [latents] if single else list(latents)
    if single or any("int" not in kind_of(latent) for latent in found):
        kinds = ", ".join(sorted({kind_of(latent) for latent in found}))
        raise refuse(
            SteeringRefusal,
            f"{name}= holds {kinds}, and must list output latents by number, as [3, 17]",
        )
    return found


def kind_of(value):
    """The name of a value's type, or of its dtype where it has one."""
    return str(getattr(value, "dtype", type(value).__name__))


def check_map(arrays, widths, prompt_rule):
    """Refuse a map that is not of these two SAEs, or that cannot serve the prompt rule."""
    shape = arrays["d_in"], arrays["d_out"]
    if shape != widths:
        raise refuse(
            MapRefusal,
            f"this map is {shape[0]} x {shape[1]}, and the two SAEs have {widths[0]} and "
            f"{widths[1]} latents; use the SAEs it was fitted with, or fit a map for these",
        )
    needed = {"gated": ("tau",), "centred": ("tau", "gate_mean")}.get(prompt_rule, ())
    missing = [name.replace("_", " ") for name in needed if arrays[name] is None]
    if missing:
        raise refuse(
            MapRefusal,
            f"prompt_rule={prompt_rule!r} needs the map's {' and '.join(missing)}, which this map "
            "does not hold; fit the map from counts, or use prompt_rule='density'",
        )


def contradicting(one, other, keys):
    """(name, one value, other value) of the first key on which two origins differ, or None.

    A key that one side lacks, or holds as None, is accepted (docs/method.md 5). Where a side knows
    no hash of an SAE, the SAEs' names are compared instead.
    """
    for key, name in keys.items():
        mine, theirs = one.get(key), other.get(key)
        if key.endswith("sae_sha256") and (mine is None or theirs is None):
            key = key.removesuffix("_sha256")
            name = name.removesuffix(" with SHA-256")
            mine, theirs = one.get(key), other.get(key)
        if mine is not None and theirs is not None and mine != theirs:
            short = 12 if key.endswith("sha256") else None
            return name, str(mine)[:short], str(theirs)[:short]
    return None


def check_origin(fitted, here, words):
    """Refuse a map whose origin contradicts what it is used with; both are named."""
    found = contradicting(fitted, here, OF_MAPS)
    if found is not None:
        name, one, other = found
        raise refuse(
            MapRefusal,
            f"this map was fitted with {name} {one}, but {words} {name} {other}; use the one it "
            "was fitted with, or fit a map for this one.",
        )
