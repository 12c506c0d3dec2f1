"""Whether a preset's model and SAEs are on this machine already."""

import importlib.util
from pathlib import Path
from typing import Any

from dspa_nn.checkup.findings import Findings
from dspa_nn.errors import SAEError
from dspa_nn.imports import untyped
from dspa_nn.models import REPO_ID, Preset, snapshot_dir
from dspa_nn.saes import split_release


def cached(repo_id: str, path: str = "") -> Path | None:
    """A file or folder of a repository in the hub's cache, in any revision; None where it is not.

    >>> cached("nobody/nothing") is None
    True
    """
    cache = Path(str(untyped("huggingface_hub.constants").HF_HUB_CACHE))
    folder = cache / f"models--{repo_id.replace('/', '--')}" / "snapshots"
    if not folder.is_dir():
        return None
    found = [one / path for one in folder.iterdir() if (one / path).exists()]
    return found[-1] if found else None


def look_at_model(findings: Findings, preset: Preset, remote: bool) -> bool:
    """Find the model's weights; return whether something must be fetched.

    >>> from dspa_nn.models import get_preset
    >>> findings = Findings()
    >>> missing = look_at_model(findings, get_preset("gemma-2-9b"), remote=True)
    >>> [one.name for one in findings], missing
    (['model'], False)
    """
    if remote:
        findings.add("model", "ok", f"{preset.model_id} runs on NDIF; no weights are needed here")
        return False
    if preset.model_id == REPO_ID:
        return _embedded(findings)
    folder = cached(preset.model_id)
    weights = [] if folder is None else sorted(folder.glob("*.safetensors"))
    if weights:
        broken = [one.name for one in weights if not one.exists()]  # links to what is gone
        words = f"{preset.model_id} is in the hub's cache, {len(weights)} file(s) of weights"
        fix = "delete its folder in the hub's cache, and let it be fetched again"
        findings.add("model", "problem" if broken else "ok", words, fix if broken else None)
        return False
    findings.add(
        "model", "note", f"{preset.model_id} is not in the hub's cache",
        "it is fetched when it is first used; for a gated model accept its licence on its page, "
        "and log in with `hf auth login`",
    )  # fmt: skip
    return True


def _embedded(findings: Findings) -> bool:
    """The embedded model, which comes from a wheel and is converted once."""
    if (snapshot_dir() / "config.json").exists():
        findings.add("model", "ok", "the embedded model is converted and kept")
        return False
    lacking = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if lacking:
        findings.add(
            "model", "problem", f"the embedded model is converted with {' and '.join(lacking)}, "
            "which is not installed", "pip install 'dspa-nn[demo]'",
        )  # fmt: skip
    else:
        findings.add(
            "model", "note", "the embedded model is not here yet",
            "it is fetched with pip and converted when it is first used, in about 40 seconds",
        )  # fmt: skip
    return True


def look_at_saes(findings: Findings, preset: Preset) -> bool:
    """Find both SAEs; return whether one must be fetched.

    >>> from dspa_nn.models import get_preset
    >>> findings = Findings()
    >>> look_at_saes(findings, get_preset("smollm2-135m-instruct"))
    False
    """
    missing = False
    for role in ("input", "output"):
        source = str(getattr(preset, f"{role}_sae"))
        name = f"{role} SAE"
        if Path(source).is_dir():
            findings.add(name, "ok", f"{Path(source).name}, in the package")
            continue
        repo_id, path = where(source)
        release, sae_id = split_release(source)
        told = f"{sae_id} of {release}"
        if cached(repo_id, path) is not None:
            findings.add(name, "ok", f"{told} is in the hub's cache")
            continue
        missing = True
        fix = f"it is fetched from {repo_id} when it is first used"
        findings.add(name, "note", f"{told} is not in the hub's cache", fix)
    return missing


def where(source: str) -> tuple[str, str]:
    """The repository of a published SAE, and its folder there.

    >>> where("gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical")[0]
    'google/gemma-scope-2b-pt-res'
    """
    release, sae_id = split_release(source)
    directory: dict[str, Any] = untyped(
        "sae_lens.loading.pretrained_saes_directory"
    ).get_pretrained_saes_directory()
    if release not in directory:
        return release, sae_id
    listed = directory[release]
    path = listed.saes_map.get(sae_id)
    if path is None:
        raise SAEError(f"the release {release!r} has no SAE {sae_id!r}; choose one that it has")
    return str(listed.repo_id), str(path)
