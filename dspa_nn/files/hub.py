"""The Hugging Face hub: a folder of ours that may lie there, and whether it can be reached."""

import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
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


# Seconds that the hub may take for an answer, where HF_HUB_DOWNLOAD_TIMEOUT does not say more.
PATIENCE = 60.0


def hub_patience() -> float:
    """Seconds that the hub may be silent before a request is given up.

    >>> hub_patience()
    60.0
    """
    return max(PATIENCE, float(untyped("huggingface_hub.constants").HF_HUB_DOWNLOAD_TIMEOUT))


# What HF_HUB_OFFLINE was before the first of the blocks that are under way, once for each of them.
_before: list[bool] = []
_changing = threading.Lock()


@contextmanager
def without_waiting() -> Generator[None, None, None]:
    """Where the hub cannot be reached, have its client read its cache or fail at once.

    >>> with without_waiting():
    ...     pass

    Left to itself it tries again for most of a minute. Where the hub can be reached and then says
    nothing, a request is given up after `hub_patience()`, where the client would wait for ever.
    """
    constants = untyped("huggingface_hub.constants")
    with _changing:
        # Of several threads the first one saw what the user had set, and the last one restores it.
        _before.append(_before[0] if _before else bool(constants.HF_HUB_OFFLINE))
    try:
        offline = not hub_answers()
        constants.HF_HUB_OFFLINE = offline
        with nullcontext() if offline else _limited_patience():
            yield
    finally:
        with _changing:
            users = _before.pop()
            if not _before:
                constants.HF_HUB_OFFLINE = users


@contextmanager
def _limited_patience() -> Generator[None, None, None]:
    """Give requests of the hub's client a limit of time where they have none.

    Some of them ask for no limit by name, so that the client's own would not do.
    """
    seconds = hub_patience()

    def limit(request: Any) -> None:
        times: dict[str, float | None] = request.extensions.get("timeout") or {}
        names = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {name: times.get(name) or seconds for name in names}

    hooks: list[Any] = untyped("huggingface_hub").get_session().event_hooks["request"]
    hooks.append(limit)
    try:
        yield
    finally:
        hooks.remove(limit)
