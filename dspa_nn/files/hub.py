"""A folder of ours that may lie on the Hugging Face hub."""

import os
from pathlib import Path

from dspa_nn.errors import FileError


def on_disk(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or where the map of a hub repository ("owner/name") was downloaded to."""
    path, text = Path(folder), str(folder)
    looks_like_hub = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    if path.exists() or not looks_like_hub:
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=["map.json", "map-*.safetensors"]))
    except Exception as error:  # the hub's many errors, and those of the network below it
        raise FileError(
            f"{text} is no folder here, and the hub does not give it ({type(error).__name__}); "
            "check the name, or download the map and pass its folder."
        ) from error
