# pyright: basic
"""Whether a map, or a vector, belongs to this model and these SAEs: docs/method.md 5."""

from collections.abc import Mapping
from typing import Any

from dspa_nn.graph.adapters import NO_ADAPTERS, active_adapters
from dspa_nn.graph.refusals import MapRefusal, refuse
from dspa_nn.graph.settings import ALWAYS

# What must be the same of the model that something was fitted with and the one that it is used
# with, in words.
OF_MODELS = {
    "model_id": "model",
    "model_revision": "model revision",
    "adapters": "active adapters:",
    "weights": "weights of the fingerprint",
    "every_weight": "weights (all, in order) of the fingerprint",
    "config": "configuration:",
}
# A map must share its layers and SAEs as well.
OF_MAPS = OF_MODELS | {
    "input_layer": "input layer",
    "output_layer": "output layer",
    "input_sae_sha256": "input SAE with SHA-256",
    "output_sae_sha256": "output SAE with SHA-256",
}


def check_map(arrays: dict, widths: tuple[int, int], prompt_rule: str) -> None:
    """Refuse a map that is not of these two SAEs, or that cannot serve the prompt rule."""
    shape = arrays["d_in"], arrays["d_out"]
    if shape != widths:
        raise refuse(
            MapRefusal,
            f"this map is {shape[0]} x {shape[1]}, and the two SAEs have {widths[0]} and "
            f"{widths[1]} latents; use the SAEs it was fitted with, or fit a map for these",
        )
    needed = {"gated": ("tau",), "centred": ("tau", "gate_mean")}.get(prompt_rule, ())
    if arrays["gate"] == ALWAYS:
        needed = ()
    missing = [name.replace("_", " ") for name in needed if arrays[name] is None]
    if missing:
        raise refuse(
            MapRefusal,
            f"prompt_rule={prompt_rule!r} needs the map's {' and '.join(missing)}, which this map "
            "does not hold; fit the map from counts, or use prompt_rule='density'",
        )


def contradicting(
    one: Mapping[str, Any], other: Mapping[str, Any], keys: Mapping[str, str]
) -> tuple[str, str, str] | None:
    """(name, one value, other value) of the first key on which two origins differ, or None.

    A key that one side lacks, or holds as None, is accepted (docs/method.md 5). Where a side knows
    no hash of an SAE, the SAEs' names are compared instead. Names of adapters are their owner's
    choice, so that only some against none differ; weights are compared within one dtype, and of
    configurations the fields that both know.
    """
    for key, name in keys.items():
        first, second = one.get(key), other.get(key)
        if not comparable(key, first, second):
            continue
        if key == "config":
            field = differing_field(first, second)
            if field is not None:
                return field
            continue
        if key.endswith("sae_sha256") and (first is None or second is None):
            key = key.removesuffix("_sha256")
            name = name.removesuffix(" with SHA-256")
            first, second = one.get(key), other.get(key)
        if first is not None and second is not None and first != second:
            short = 12 if key.endswith("sha256") else None
            return name, str(first)[:short], str(second)[:short]
    return None


def comparable(key: str, first: Any, second: Any) -> bool:
    """Whether two values of a key that differ say that the models differ."""
    if first is None or second is None:
        return True
    if key == "adapters":
        return NO_ADAPTERS in (first, second)
    if key in ("weights", "every_weight"):
        return str(first).split(":")[0] == str(second).split(":")[0]
    return True


def differing_field(one: Any, other: Any) -> tuple[str, str, str] | None:
    """(name, one value, other value) of a field of two configurations that both know, or None.

    >>> differing_field({"act": "silu", "eps": 1e-6}, {"act": "gelu", "new": True})
    ('act', 'silu', 'gelu')

    one, other: configurations, lists of them (one for each output SAE), or None.
    """
    several = isinstance(one, list) and isinstance(other, list)
    pairs = zip(one, other, strict=False) if several else [(one, other)]
    for first, second in pairs:
        if not isinstance(first, Mapping) or not isinstance(second, Mapping):
            continue
        for name in sorted({*first} & {*second}):
            if first[name] != second[name]:
                return name, str(first[name]), str(second[name])
    return None


def origin_served(module: Any) -> dict[str, Any]:
    """What a server knows of the model that it runs: the revision, and the active adapters."""
    config = getattr(module, "config", None)
    return {
        "model_revision": getattr(config, "_commit_hash", None),
        "adapters": active_adapters(module),
    }


def check_origin(fitted: Mapping[str, Any], here: Mapping[str, Any], words: str) -> None:
    """Refuse a map whose origin contradicts what it is used with; the sentence names both.

    fitted, here: what the map was fitted with, and what it is used with, by the keys of `OF_MAPS`;
    words: how `here` is introduced, as in "it is used with".
    """
    contradiction = contradicting(fitted, here, OF_MAPS)
    if contradiction is not None:
        name, one, other = contradiction
        raise refuse(
            MapRefusal,
            f"this map was fitted with {name} {one}, but {words} {name} {other}; use the one it "
            "was fitted with, or fit a map for this one.",
        )
