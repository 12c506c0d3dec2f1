"""What an SAE's metadata says, and whether it contradicts the model: pure functions of names."""

import re
from pathlib import Path

from dspa_nn.errors import SAEError

# The encode of these is carried out by `graph/encode.py`.
HANDLED = ("standard", "gated", "jumprelu", "topk", "abstopk", "matching_pursuit")

# Types that exist in training only: SAELens saves them as the type on the right, and so do we.
SAVED_AS = {"batchtopk": "jumprelu", "matryoshka_batchtopk": "jumprelu"}

_TRANSCODES = "it writes elsewhere than it reads, so its decode is no change of what it read"
REFUSED = {
    "temporal": "its latents depend on the tokens before, through attention",
    "transcoder": _TRANSCODES,
    "skip_transcoder": _TRANSCODES,
    "jumprelu_transcoder": _TRANSCODES,
    "jumprelu_skip_transcoder": _TRANSCODES,
}

_RESIDUAL_HOOK = re.compile(r"blocks\.(\d+)\.hook_(resid_post|resid_pre|out|in)")
# Hugging Face's name of a whole decoder block, whose output is the residual stream.
_BLOCK_PATH = re.compile(r"(?:[\w.]*\.)?(?:layers|h|blocks)\.(\d+)")

# Words of a model's name that tell a base model from its instruct version, or only decorate.
_VARIANT_WORDS = {"it", "instruct", "chat", "pt", "base", "hf", "meta"}
_ALIASES = {"gpt2-small": "gpt2"}


def check_architecture(architecture: str, hook_name: str | None, sae_id: str) -> None:
    """Refuse, by name and hook, an SAE type whose encode or decode is not carried out here."""
    if architecture in HANDLED or architecture in SAVED_AS:
        return
    reason = REFUSED.get(architecture, "this type is not known to dspa_nn")
    raise SAEError(
        f"the SAE {sae_id} at hook {hook_name!r} is of type {architecture!r}, which cannot be "
        f"steered with ({reason}): use one of type {', '.join(HANDLED)}, {', '.join(SAVED_AS)}"
    )


def residual_layer(hook_name: str | None, sae_id: str) -> int | None:
    """Return the decoder block whose output the hook reads, 0-based (docs/method.md 5).

    `hook_resid_post` L is block L; `hook_resid_pre` L is block L - 1; no hook name is None.

    Raises:
        SAEError: the hook is not on the residual stream between blocks.
    """
    if hook_name is None:
        return None
    if found := _RESIDUAL_HOOK.fullmatch(hook_name):
        layer = int(found[1]) - (found[2] in ("resid_pre", "in"))
        if layer >= 0:
            return layer
    elif found := _BLOCK_PATH.fullmatch(hook_name):
        return int(found[1])
    raise SAEError(
        f"the SAE {sae_id} reads {hook_name!r}, which is not the output of a decoder block: "
        "use an SAE of the residual stream, such as 'blocks.9.hook_resid_post'"
    )


def model_words(name: str) -> tuple[set[str], set[str]]:
    """Split a model's name into the words that identify it and its version words.

    Organisation, case, URL and the words that tell base from instruct are dropped:
    `model_words("google/gemma-2-2b-it") == ({"gemma", "2", "2b"}, set())`.
    """
    if cached := re.search(r"models--(?:[^/]*?--)?([^/]+)", name):
        name = cached[1]
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    words = _ALIASES.get(last, last).replace("_", "-").split("-")
    versions = {word for word in words if re.fullmatch(r"v\d+(\.\d+)*", word)}
    return set(words) - _VARIANT_WORDS - versions, versions


def same_model(one: str, other: str) -> bool:
    """Tell whether two names may mean the same model, or a base model and its instruct version.

    A version such as v0.1 contradicts only another version. A local folder's name says nothing,
    unless it lies in the hub's cache.
    """
    if any(_is_folder(name) for name in (one, other)):
        return True
    (words, versions), (other_words, other_versions) = model_words(one), model_words(other)
    agree = not versions or not other_versions or versions == other_versions
    return words == other_words and agree


def _is_folder(name: str) -> bool:
    return "models--" not in name and (name.startswith((".", "/", "~")) or Path(name).is_dir())
