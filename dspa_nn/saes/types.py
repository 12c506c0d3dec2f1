"""The types of SAE that can be steered with: those of SAELens, and those that users register."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor

from dspa_nn.errors import SAEError
from dspa_nn.graph.encode import SAE_TYPES, SAEType
from dspa_nn.shipping import travels_by_value

Latents: TypeAlias = Callable[[Tensor, dict[str, Tensor], dict[str, Any]], Tensor]

_TRANSCODES = "it writes elsewhere than it reads, so its decode is no change of what it read"
REFUSED = {
    "temporal": "its latents depend on the tokens before, through attention",
    "transcoder": _TRANSCODES,
    "skip_transcoder": _TRANSCODES,
    "jumprelu_transcoder": _TRANSCODES,
    "jumprelu_skip_transcoder": _TRANSCODES,
}

_registered: dict[str, SAEType] = {**SAE_TYPES}


def sae_types() -> Mapping[str, SAEType]:
    """Every type that can be steered with, by the name that SAELens gives it.

    >>> sae_types()["topk"].settings
    ('k', 'rescale_acts_by_decoder_norm')
    """
    return MappingProxyType(_registered)


def latents_of(sae_type: SAEType) -> Latents:
    """The encode of a type, with its signature: `graph/` travels without any.

    >>> latents_of(sae_types()["standard"]).__name__
    '_standard'
    """
    return vars(sae_type)["latents"]


def saved_as() -> dict[str, str]:
    """Types that exist in training only -> the type that SAELens saves them as.

    >>> saved_as()["batchtopk"]
    'jumprelu'
    """
    return {name: kind.name for kind in _registered.values() for name in kind.trained_as}


def register_sae_type(
    name: str,
    latents: Latents,
    *,
    tensors: Sequence[str],
    settings: Sequence[str] = (),
    trained_as: Sequence[str] = (),
    tied: bool = False,
) -> None:
    """Let SAEs of a type that SAELens does not ship be loaded, counted and steered with.

    Example:
        >>> def capped(x, tensors, rule):
        ...     latents = (x @ tensors["W_enc"] + tensors["b_enc"]).relu()
        ...     return latents.clamp(max=rule["cap"])
        >>> register_sae_type("capped", capped, tensors=("W_enc", "b_enc"), settings=("cap",))

    The class of the SAE itself goes to SAELens (`sae_lens.register_sae_class`), which reads its
    files. Here, `latents` repeats its encode with torch alone. On NDIF the function runs from its
    source, with whatever of its module it uses, so that module must need nothing that the server
    lacks. The decode must be `latents @ W_dec + b_dec`, undone normalisation aside.

    Args:
        name: what the SAE's `cfg.architecture()` returns.
        latents: `latents(x, tensors, rule)`: x `[..., d_model]`, normalised and less `b_dec` where
            the config says so, in the SAE's dtype and on its device, to `[..., width]`.
        tensors: names of the weights that it reads, as in the SAE's `state_dict`.
        settings: names of the config values that it reads in `rule`: JSON-able ones.
        trained_as: types that exist in training only, and that SAELens saves as this one.
        tied: let it read the decoder as well, as `tensors["dictionary"]`.

    Raises:
        SAEError: a name that SAELens itself ships, `latents` that is no function of three
            arguments, or one string in place of several names.
    """
    if name in SAE_TYPES or name in REFUSED or name in saved_as():
        raise SAEError(f"the SAE type {name!r} is known already: register yours under another name")
    if not inspect.isfunction(latents) or len(inspect.signature(latents).parameters) != 3:
        raise SAEError(
            f"latents of the SAE type {name!r} is {latents!r}, and must be a function of "
            "(x, tensors, rule)"
        )
    for what, names in (("tensors", tensors), ("settings", settings), ("trained_as", trained_as)):
        if isinstance(names, str):
            raise SAEError(
                f"{what} of the SAE type {name!r} is the string {names!r}, and must list names: "
                f"write ({names!r},)"
            )
    travels_by_value(latents.__module__)
    _registered[name] = SAEType(name, latents, tensors, settings, trained_as, tied)


def check_architecture(architecture: str, hook_name: str | None, sae_id: str) -> None:
    """Refuse, by name and hook, an SAE type whose encode or decode is not carried out here."""
    if architecture in sae_types() or architecture in saved_as():
        return
    reason = REFUSED.get(architecture, "this type is not known to dspa_nn")
    usable = ", ".join([*sae_types(), *saved_as()])
    raise SAEError(
        f"the SAE {sae_id} at hook {hook_name!r} is of type {architecture!r}, which cannot be "
        f"steered with ({reason}): use one of type {usable}"
    )
