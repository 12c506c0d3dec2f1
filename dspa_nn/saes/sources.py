"""Finding an SAE: a SAELens object, a folder saved by SAELens, or "release/sae_id"."""

import difflib
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from dspa_nn.errors import SAEError, first_line
from dspa_nn.files import as_path, without_waiting
from dspa_nn.imports import untyped
from dspa_nn.saes.dictionary_learning import CONFIG, WEIGHTS, is_checkpoint, read_checkpoint
from dspa_nn.saes.types import check_architecture, saved_as


@runtime_checkable
class SAEMetadata(Protocol):
    """What SAELens notes of an SAE beside its config; a name that is not known is None."""

    hook_name: str | None
    hf_hook_name: str | None
    hook_name_out: str | None
    hook_head_index: int | None
    model_name: str | None


@runtime_checkable
class SAEConfig(Protocol):
    """SAELens' config of an SAE for inference, as far as it is read here."""

    d_in: int
    d_sae: int
    reshape_activations: str
    normalize_activations: str
    apply_b_dec_to_input: bool
    metadata: SAEMetadata

    def architecture(self) -> str:
        """The name of the type."""
        ...


@runtime_checkable
class SAELensSAE(Protocol):
    """An SAE of SAELens, as far as it is read here."""

    cfg: SAEConfig

    def state_dict(self) -> dict[str, Tensor]:
        """The named weights."""
        ...


def open_source(source: object) -> tuple[str, SAEConfig, dict[str, Tensor]]:
    """Return an id to show, SAELens' inference config and the named weights of that config.

    >>> sae_id, config, weights = open_source(folder)
    >>> sae_id, config.architecture(), sorted(weights)
    ('sae', 'topk', ['W_dec', 'W_enc', 'b_dec', 'b_enc'])

    Raises:
        SAEError: it cannot be found or read, or is of a type that cannot be steered with.
    """
    sae: SAELensSAE
    if isinstance(source, _saelens("SAE")) and isinstance(source, SAELensSAE):
        sae_id = f"{type(source).__name__}@{source.cfg.metadata.hook_name or 'no hook name'}"
        sae = source
    elif (folder := _folder_of(source)) is not None:
        sae_id, sae = folder.resolve().name, _from_folder(folder)
    elif isinstance(source, str):
        sae_id, sae = source, _from_release(source)
    else:
        raise SAEError(
            f"an SAE was given as {type(source).__name__}: pass a SAELens SAE, the folder of one "
            "that SAELens saved, or 'release/sae_id'"
        )
    check_architecture(sae.cfg.architecture(), sae.cfg.metadata.hook_name, sae_id)
    return sae_id, *_inference_parts(sae)


def _folder_of(source: object) -> Path | None:
    """The folder that is meant, or None where a string names none here."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    try:
        path = as_path(cast("str | os.PathLike[str]", source))
        is_folder = path.is_dir()
    except OSError as error:
        raise SAEError(
            f"the SAE {str(cast(object, source))[:60]!r} cannot be read as a path "
            f"({first_line(error, named=True)}): pass a folder, 'release/sae_id' or the SAE itself"
        ) from None
    return path if is_folder or not isinstance(source, str) else None


def _saelens(name: str, module: str = "sae_lens") -> Any:
    """A name of SAELens, which has no types of its own and loads when an SAE is first opened."""
    return getattr(import_module(module), name)


def _inference_parts(sae: Any) -> tuple[SAEConfig, dict[str, Tensor]]:
    state = sae.state_dict()  # detached, and sharing the SAE's memory
    if not isinstance(sae, _saelens("TrainingSAE")):
        return sae.cfg, state
    # What SAELens writes when it saves a trained SAE for inference, without the disk.
    sae.process_state_dict_for_saving_inference(state)
    config: dict[str, Any] = sae.cfg.get_inference_sae_cfg_dict()
    get_sae_class = _saelens("get_sae_class", "sae_lens.registry")
    return get_sae_class(config["architecture"])[1].from_dict(config), state


def _from_folder(folder: Path) -> SAELensSAE:
    config_name = _saelens("SAE_CFG_FILENAME", "sae_lens.constants")
    weights_name = _saelens("SAE_WEIGHTS_FILENAME", "sae_lens.constants")
    if is_checkpoint(folder) and not (folder / config_name).is_file():
        return read_checkpoint(folder)
    for name in (config_name, weights_name):
        if not (folder / name).is_file():
            raise SAEError(
                f"the folder {str(folder)!r} holds no {name}: pass a folder that SAELens' "
                "save_model or save_inference_model wrote"
            )
    try:
        config = json.loads((folder / config_name).read_text())
        architecture = config.get("architecture", "standard")
    except (ValueError, AttributeError) as error:
        raise _unreadable(folder, error) from error
    hook_name = (config.get("metadata") or config).get("hook_name")
    check_architecture(architecture, hook_name, folder.name)
    loader = _saelens("TrainingSAE" if architecture in saved_as() else "SAE")
    try:
        return loader.load_from_disk(folder)
    except Exception as error:  # whatever a damaged file makes SAELens or safetensors raise
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> SAEError:
    reason = first_line(error, named=True)
    return SAEError(
        f"the SAE in {str(folder)!r} cannot be read ({reason}): save it again with SAELens' "
        "save_model or save_inference_model"
    )


def _listed_releases() -> dict[str, Any]:
    """The releases that SAELens lists, by name."""
    return _saelens("get_pretrained_saes_directory", "sae_lens.loading.pretrained_saes_directory")()


def split_release(source: str) -> tuple[str, str]:
    """Split "release/sae_id"; a release that SAELens does not list is a hub id, "org/name".

    >>> split_release("gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical")
    ('gemma-scope-2b-pt-res-canonical', 'layer_7/width_16k/canonical')

    Raises:
        SAEError: neither a listed release nor "org/name/sae_id", or the release lacks the id.
    """
    directory = _listed_releases()
    release, _, sae_id = source.partition("/")
    if release in directory:
        known: dict[str, str] = directory[release].saes_map
        if sae_id not in known:
            near = difflib.get_close_matches(sae_id, known, n=3, cutoff=0) or list(known)[:3]
            raise SAEError(
                f"the release {release!r} has no SAE {sae_id!r}: choose among its {len(known)}, "
                f"such as {', '.join(near)}"
            )
        return release, sae_id
    parts = source.split("/")
    near = difflib.get_close_matches(release, directory, n=3)
    # No organisation of the hub is called almost as a listed release is: that one is mistyped.
    mistyped = bool(difflib.get_close_matches(release, directory, n=1, cutoff=0.85))
    is_hub_id = len(parts) >= 3 and all(parts) and not source.startswith((".", "~"))
    if is_hub_id and not mistyped:
        return "/".join(parts[:2]), "/".join(parts[2:])
    hint = f" (near it: {', '.join(near)})" if near else ""
    raise SAEError(
        f"the SAE {source!r} is neither an existing folder nor 'release/sae_id' of a release that "
        f"SAELens lists{hint}: check the spelling, or pass the folder or the SAE itself"
    )


def repository_of(source: str) -> str | None:
    """The hub repository of an SAE's source; None for a folder here.

    >>> repository_of("gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical")
    'google/gemma-scope-2b-pt-res'
    >>> repository_of(str(folder)) is None
    True

    Raises:
        SAEError: neither a folder nor a source that `split_release` takes.
    """
    if _folder_of(source) is not None:
        return None
    release, _ = split_release(source)
    directory = _listed_releases()
    return str(directory[release].repo_id) if release in directory else release


def _from_release(source: str) -> SAELensSAE:
    release, sae_id = split_release(source)
    try:
        with without_waiting():
            return _download(release, sae_id)
    except Exception as error:  # the hub's errors are many, and change with its client's version
        reason, near = first_line(error, named=True), _listed_near(release)
        raise SAEError(
            f"the SAE {sae_id!r} of release {release!r} could not be loaded from the hub "
            f"({reason}): check the name and the network{near}, or download it and pass the folder"
        ) from error


def _listed_near(release: str) -> str:
    """A clause with the releases that SAELens lists of a hub id, or of those that are near it."""
    if "/" not in release:
        return ""
    repositories = {name: str(entry.repo_id) for name, entry in _listed_releases().items()}
    near = difflib.get_close_matches(release, set(repositories.values()), n=1, cutoff=0.8)
    names = [name for name, repository in repositories.items() if repository in near][:3]
    return f" (SAELens lists {near[0]} as {', '.join(names)})" if near else ""


def _download(release: str, sae_id: str) -> SAELensSAE:
    from huggingface_hub.errors import EntryNotFoundError

    from_pretrained = _saelens("SAE").from_pretrained
    try:
        return from_pretrained(release, sae_id)
    except EntryNotFoundError as no_config:
        if "/" not in release:
            raise
        # A repository that SAELens does not list may be in dictionary_learning's layout.
        download: Any = untyped("huggingface_hub").hf_hub_download
        try:
            here = [Path(download(release, f"{sae_id}/{name}")) for name in (CONFIG, WEIGHTS)]
        except EntryNotFoundError:
            raise no_config from None
        return read_checkpoint(here[0].parent)
