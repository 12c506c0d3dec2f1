"""A folder of ours that may lie on the Hugging Face hub."""

import os
from pathlib import Path

from dspa_nn.errors import FileError
from dspa_nn.files.paths import as_path
from dspa_nn.imports import untyped


def on_disk(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or where the map of a hub repository ("owner/name") was downloaded to.

    >>> on_disk("maps/warm").as_posix()
    Traceback (most recent call last):
    dspa_nn.errors.FileError: maps/warm is no folder here, and the hub does not give it ...
    >>> on_disk("./maps/warm").as_posix()
    'maps/warm'

    Raises:
        FileError: neither a folder nor a repository that can be had.
    """
    path, text = as_path(folder), str(folder)
    looks_like_hub = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    if path.exists() or not looks_like_hub:
        return path
    hub, patterns = untyped("huggingface_hub"), ["map.json", "map-*.safetensors"]
    try:
        return Path(hub.snapshot_download(text, allow_patterns=patterns))
    except Exception as error:  # the hub's many errors, and those of the network below it
        raise FileError(
            f"{text} is no folder here, and the hub does not give it ({type(error).__name__}); "
            "check the name, or download the map and pass its folder."
        ) from error
