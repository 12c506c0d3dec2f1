"""Arrays and their description on disk: one safetensors file, one JSON file, never a mixed pair.

A pair named `map` in a folder is `map.json` and `map-<16 hex digits>.safetensors`, where the
digits open the SHA-256 of the tensor file, which the JSON holds in full. The tensor file is put in
place first, under a name that no older pair uses; replacing the JSON is the single step that makes
the new pair the valid one; the older tensor file goes last. So whatever interrupts a save, the
folder holds the old pair or the new one. The JSON also holds a checksum of itself. Nothing in
either file depends on the time or the machine: equal contents give equal bytes.
"""

import glob
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.numpy
from torch import Tensor

from dspa_nn.errors import FileError
from dspa_nn.files import atomic
from dspa_nn.files.paths import as_path

_CHUNK = 1 << 24


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits.

    >>> Path("map.json").write_text("{}")
    2
    >>> sha256_of_file("map.json")
    '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    digest = hashlib.sha256()
    with as_path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys.

    >>> sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_pair(
    folder: str | os.PathLike[str],
    name: str,
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    *,
    version: int,
) -> None:
    """Save arrays and their description as the pair `name` in `folder`, whole or not at all.

    >>> write_pair("folder", "counts", {"index": np.arange(3)}, {"skipped": {}}, version=1)

    Args:
        folder: made where it does not exist.
        name: of both files, as the module's docstring says.
        arrays: any shapes and dtypes that safetensors knows.
        about: any JSON object without the keys `schema`, `version`, `sha256` and `checksum`.
        version: of the schema, which `read_pair` is asked for.

    Raises:
        FileError: a full disk or a read-only folder; the pair that was there stays.
    """
    target = as_path(folder) / f"{name}.json"
    with atomic.saving(target):
        payload = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
        digest = hashlib.sha256(payload).hexdigest()
        body = {"schema": f"dspa_nn.{name}", "version": version, "sha256": digest, **about}
        body["checksum"] = sha256_of_json(body)
        text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        tensors = _tensor_path(target.parent, name, digest)
        already_there = tensors.exists()
        any_tensors = f"{glob.escape(name)}-{'[0-9a-f]' * 16}.safetensors"
        atomic.remove_left_behind(target.parent, glob.escape(target.name), any_tensors)
        try:
            with ExitStack() as open_files:
                temporaries = [
                    atomic.write_temporary(tensors, payload, open_files),
                    atomic.write_temporary(target, text.encode() + b"\n", open_files),
                ]
                temporaries[0].replace(tensors)
                atomic.sync_folder(target.parent)
                temporaries[1].replace(target)
                atomic.sync_folder(target.parent)
        except BaseException:
            if not already_there and not _names(target, digest):
                tensors.unlink(missing_ok=True)
            raise
        for older in target.parent.glob(any_tensors):
            if older != tensors:  # harmless when it cannot be removed: no JSON names it
                atomic.remove_unless_locked(older, in_doubt=True)


def read_pair(
    folder: str | os.PathLike[str], name: str, *, version: int, verify: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the pair `name` from `folder`: memory-mapped tensors, and the JSON object.

    >>> write_pair("folder", "counts", {"index": np.arange(3)}, {"skipped": {}}, version=1)
    >>> tensors, about = read_pair("folder", "counts", version=1)
    >>> tensors["index"], about["skipped"]
    (tensor([0, 1, 2]), {})

    Args:
        folder: as it was saved.
        name: of the pair in it.
        version: the newest version of the schema that the caller can read.
        verify: read the arrays through for their checksum; without it, changed bytes in them go
            unnoticed.

    Raises:
        FileError: a file is missing, cut short, changed, or of a newer version of the schema.
    """
    path = as_path(folder) / f"{name}.json"
    about = _read_json(path, name, version)
    tensors = _tensor_path(path.parent, name, about["sha256"])
    if not tensors.is_file():
        raise FileError(
            f"{path} belongs to {tensors.name}, which is not beside it; "
            "copy or download the two files together."
        )
    try:
        digest = sha256_of_file(tensors) if verify else about["sha256"]
        if digest != about["sha256"]:
            raise FileError(
                f"{tensors} has SHA-256 {digest[:12]}, but {path.name} expects "
                f"{about['sha256'][:12]}: it was cut short or changed; save or copy it again."
            )
        with cast(Any, safetensors.safe_open(str(tensors), framework="pt")) as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, about  # noqa: SIM118
    except FileError:
        raise
    except (OSError, safetensors.SafetensorError) as error:
        raise FileError(f"{tensors} cannot be read ({error}); save or copy it again.") from error


def _read_json(path: Path, name: str, version: int) -> dict[str, Any]:
    if not path.is_file():
        raise FileError(
            f"{path.parent} holds no {path.name}, expected a folder that save(...) wrote; "
            "check the path."
        )
    damaged = f"{path} was cut short or changed since it was saved; save or copy it again."
    try:
        loaded: Any = json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(damaged) from error
    about = cast(dict[str, Any], loaded if isinstance(loaded, dict) else {})
    if not isinstance(about.get("version"), int):
        raise FileError(damaged)
    if about.get("schema") != f"dspa_nn.{name}":
        raise FileError(
            f"{path} has schema {about.get('schema')!r}, expected 'dspa_nn.{name}'; "
            "check the path, or save the file again."
        )
    if about["version"] > version:
        raise FileError(
            f"{path} has schema version {about['version']}, newer than {version}, the newest that "
            "this dspa_nn reads; upgrade dspa_nn."
        )
    checksum = about.pop("checksum", None)
    is_hash = re.fullmatch("[0-9a-f]{64}", str(about.get("sha256")))
    try:
        changed = checksum != sha256_of_json(about)
    except ValueError:  # NaN or infinity, which Python reads and no file of ours holds
        changed = True
    if changed or not is_hash:
        raise FileError(damaged)
    return about


def _tensor_path(folder: Path, name: str, digest: str) -> Path:
    return folder / f"{name}-{digest[:16]}.safetensors"


def _names(path: Path, digest: str) -> bool:
    """Whether the JSON at `path` already names the tensor file of this digest."""
    try:
        return digest.encode() in path.read_bytes()
    except OSError:
        return False
