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
    """The layers that PEFT put in place of the model's, and whole modules that it keeps copies of.

    The former hold the model's as `base_layer`, the latter as `original_module`.
    """
    return [
        layer
        for layer in module.modules()
        # Of its own: PEFT's wrappers of a whole model hand on what is in it.
        if {"base_layer", "original_module"}.intersection(layer._modules)
        and hasattr(layer, "disable_adapters")
    ]


def active_in(layer: Any) -> list[str]:
    """The adapters that an adapted layer applies: on, and not merged."""
    if layer.disable_adapters:
        return []
    merged = set(getattr(layer, "merged_adapters", ()))
    active = layer.active_adapters
    names = [active] if isinstance(active, str) else list(active)
    copies = layer._modules.get("modules_to_save")
    return [name for name in names if name not in merged and (copies is None or name in copies)]


def idle_in(layer: Any) -> set[int]:
    """Ids of the parameters and buffers of an adapted layer that it does not compute with."""
    active = active_in(layer)
    copied = layer._modules.get("original_module")
    base = layer.base_layer if copied is None else copied
    of_base = {id(tensor) for tensor in (*base.parameters(), *base.buffers())}
    idle = set(of_base) if copied is not None and active else set()
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        if id(tensor) not in of_base and not set(name.split(".")) & set(active):
            idle.add(id(tensor))
    return idle


def strengths(layers: list[Any]) -> list[tuple[str, ...]]:
    """For each adapted layer the scaling of its active adapters, which is no parameter (LoRA)."""
    found = []
    for layer in layers:
        scaling = getattr(layer, "scaling", None)
        known = scaling if isinstance(scaling, dict) else {}
        found.append(tuple(str(known.get(name)) for name in active_in(layer)))
    return found


def virtual_tokens(model: Any) -> bool:
    """Whether PEFT puts tokens that nobody wrote in front of the model's: prompt and prefix tuning.

    >>> virtual_tokens(hf_model)
    False
    """
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict) or not hasattr(model, "get_base_model"):
        return False
    return any(getattr(config, "is_prompt_learning", False) for config in configs.values())
