# pyright: basic
"""The adapters that a model runs with: those of PEFT, which put layers in place of the model's."""

from typing import Any

NO_ADAPTERS = "none"


def active_adapters(module: Any) -> str:
    """Names of the adapters that a model runs with, "none" without one.

    >>> active_adapters(hf_model)
    'none'

    An adapter that is switched off, or merged into the weights, is none; merged weights have
    another fingerprint.
    """
    names = {name for layer in adapted_layers(module) for name in active_in(layer)}
    return ", ".join(sorted(names)) or NO_ADAPTERS


def adapted_layers(module: Any) -> list[Any]:
    """The layers that PEFT put in place of the model's."""
    return [
        layer
        for layer in module.modules()
        if hasattr(layer, "base_layer") and hasattr(layer, "disable_adapters")
    ]


def active_in(layer: Any) -> list[str]:
    """The adapters that an adapted layer applies: on, and not merged."""
    if layer.disable_adapters:
        return []
    merged = set(getattr(layer, "merged_adapters", ()))
    active = layer.active_adapters
    return [
        name for name in ([active] if isinstance(active, str) else active) if name not in merged
    ]
