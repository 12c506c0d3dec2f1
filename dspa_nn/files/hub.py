"""The Hugging Face hub: a folder of ours that may lie there, and whether it can be reached."""

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

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
        with without_waiting():
            path = Path(hub.snapshot_download(text, allow_patterns=patterns))
    except Exception as error:  # the hub's many errors, and those of the network below it
        raise FileError(
            f"{text} is no folder here, and the hub does not give it ({type(error).__name__}); "
            "check the name, or download the map and pass its folder."
        ) from error
    if not (path / "map.json").is_file():
        raise FileError(
            f"{text} on the hub holds no map.json, and so no map; `dspa inspect {text}` says what "
            "it holds"
        )
    return path


def hub_answers() -> bool:
    """Ask in three seconds what the hub's client would find out, loudly, in half a minute."""
    constants = untyped("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    try:
        where = urlsplit(str(constants.ENDPOINT))
        port = where.port or (80 if where.scheme == "http" else 443)
        socket.create_connection((where.hostname, port), timeout=3).close()
    except (OSError, ValueError):  # or an HF_ENDPOINT that is no address
        return False
    return True


@contextmanager
def without_waiting() -> Generator[None, None, None]:
    """Where the hub cannot be reached, have its client read its cache or fail at once.

    >>> with without_waiting():
    ...     pass

    Left to itself it tries again for most of a minute.
    """
    constants = untyped("huggingface_hub.constants")
    before: bool = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
