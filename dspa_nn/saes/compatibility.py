"""What an SAE's metadata says, and whether it contradicts the model."""

import re
from pathlib import Path

from dspa_nn.errors import SAEError
from dspa_nn.saes.loaded import LoadedSAE

_RESIDUAL_HOOK = re.compile(r"blocks\.(\d+)\.hook_(resid_post|resid_pre|out|in)")
# Hugging Face's name of a whole decoder block, whose output is the residual stream.
_BLOCK_PATH = re.compile(r"(?:[\w.]*\.)?(?:layers|h|blocks)\.(\d+)")

# Words of a model's name that tell a base model from its instruct version, or only decorate.
_VARIANT_WORDS = {"it", "instruct", "chat", "pt", "base", "hf", "meta"}
_ALIASES = {"gpt2-small": "gpt2"}


def residual_layer(hook_name: str | None, sae_id: str) -> int | None:
    """Return the decoder block whose output the hook reads, 0-based (docs/method.md 5).

    >>> residual_layer("blocks.9.hook_resid_post", "sae"), residual_layer("model.layers.3", "sae")
    (9, 3)

    `hook_resid_post` L is block L; `hook_resid_pre` L is block L - 1; no hook name is None.

    Raises:
        SAEError: the hook is not on the residual stream between blocks.
    """
    if hook_name is None:
        return None
    if hook := _RESIDUAL_HOOK.fullmatch(hook_name):
        layer = int(hook[1]) - (hook[2] in ("resid_pre", "in"))
        if layer >= 0:
            return layer
    elif hook := _BLOCK_PATH.fullmatch(hook_name):
        return int(hook[1])
    raise SAEError(
        f"the SAE {sae_id} reads {hook_name!r}, which is not the output of a decoder block: "
        "use an SAE of the residual stream, such as 'blocks.9.hook_resid_post'"
    )


def model_words(name: str) -> tuple[set[str], set[str]]:
    """Split a model's name into the words that identify it and its version words.

    >>> words, versions = model_words("mistralai/Mistral-7B-Instruct-v0.1")
    >>> sorted(words), versions
    (['7b', 'mistral'], {'v0.1'})

    Organisation, case, URL and the words that tell base from instruct are dropped.
    """
    if cached := re.search(r"models--(?:[^/]*?--)?([^/]+)", name):
        name = cached[1]
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    words = _ALIASES.get(last, last).replace("_", "-").split("-")
    versions = {word for word in words if re.fullmatch(r"v\d+(\.\d+)*", word)}
    return set(words) - _VARIANT_WORDS - versions, versions


def same_model(one: str, other: str) -> bool:
    """Tell whether two names may mean the same model, or a base model and its instruct version.

    >>> same_model("google/gemma-2-2b", "gemma-2-2b-it"), same_model("gpt2", "gpt2-medium")
    (True, False)

    A version such as v0.1 contradicts only another version. A local folder's name says nothing,
    unless it lies in the hub's cache.
    """
    if any(_is_folder(name) for name in (one, other)):
        return True
    (words, versions), (other_words, other_versions) = model_words(one), model_words(other)
    agree = not versions or not other_versions or versions == other_versions
    return words == other_words and agree


def _is_folder(name: str) -> bool:
    try:
        here = Path(name).is_dir()
    except OSError:  # too long for a file's name
        here = False
    return "models--" not in name and (name.startswith((".", "/", "~")) or here)


def check_sae(
    sae: LoadedSAE,
    *,
    layer: int | None,
    n_layers: int,
    d_model: int,
    model_name: str | None,
    role: str,
) -> None:
    """Refuse an SAE whose metadata contradicts the model or the layer asked for.

    Example:
        >>> from dspa_nn.saes import load_sae
        >>> sae = load_sae(folder)  # of layer 1, 32 wide
        >>> check_sae(sae, layer=1, n_layers=4, d_model=32, model_name="tiny-llama",
        ...           role="input")

    Metadata that is absent is accepted (docs/method.md 5). Model names are compared without
    organisation and case, and a base model's SAE may be used with its instruct version.

    Args:
        layer: the decoder block asked for, 0-based; None takes the one that the SAE names.
        role: "input" or "output", for the message.

    Raises:
        SAEError: wrong width, layer or model; the sentence names both sides.
    """
    name = f"the {role} SAE {sae.id}"
    if sae.d_model != d_model:
        raise SAEError(
            f"{name} reads vectors of width {sae.d_model}, but the model's residual stream has "
            f"width {d_model}: use an SAE of this model"
        )
    if layer is None and sae.layer is None:
        raise SAEError(f"{name} does not say which layer it reads: pass {role}_layer=")
    asked = sae.layer if layer is None else layer
    if asked is None or not 0 <= asked < n_layers:
        raise SAEError(
            f"{name} is to read layer {asked}, but the model's layers are 0 to {n_layers - 1}: "
            f"pass an {role}_layer of this model"
        )
    if sae.layer is not None and sae.layer != asked:
        raise SAEError(
            f"{name} reads the output of layer {sae.layer} (hook {sae.hook_name}), but layer "
            f"{asked} was asked for: pass {role}_layer={sae.layer}, or another SAE"
        )
    if sae.model_name and model_name and not same_model(sae.model_name, model_name):
        raise SAEError(
            f"{name} was trained on {sae.model_name!r}, but the model is {model_name!r}: use an "
            f"SAE of this model, or say same_model_as={sae.model_name!r} if it is that model under "
            "another name"
        )
