"""Arrays and their description on disk: one safetensors file, one JSON file, never a mixed pair.

A pair named `map` in a folder is `map.json` and `map-<16 hex digits>.safetensors`, where the
digits open the SHA-256 of the tensor file, which the JSON holds in full. The tensor file is put in
place first, under a name that no older pair uses; replacing the JSON is the single step that makes
the new pair the valid one; the older tensor file goes last. So whatever interrupts a save, the
folder holds the old pair or the new one. The JSON also holds a checksum of itself. Nothing in
either file depends on the time or the machine: equal contents give equal bytes.

Until it is in its place a file is a hidden `.tmp`, which nothing reads. Its writer holds a lock on
it until the save is over, and the system lets go of the lock when the writer dies. So the next save
of the same name removes what a dead writer left behind, and nothing that a living one needs.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.numpy
from torch import Tensor

from dspa_nn.errors import FileError

try:
    import fcntl
except ImportError:  # Windows: no such locks, and an open file cannot be put in another's place
    fcntl: Any = None

_CHUNK = 1 << 24


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits.

    >>> sha256_of_file("map.json")                                        # doctest: +SKIP
    '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
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


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a whole file or leave what was there: temporary file, fsync, replace.

    >>> write_atomically("demo/report.json", "{}")                        # doctest: +SKIP

    Raises `FileError` when the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    payload = data.encode() if isinstance(data, str) else data
    with _refuse_in_one_sentence(target), _new_folder(target.parent):
        _remove_left_behind(target.parent, glob.escape(target.name))
        with ExitStack() as open_files:
            _write_temporary(target, payload, open_files).replace(target)
        _sync_folder(target.parent)


def write_pair(
    folder: str | os.PathLike[str],
    name: str,
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    *,
    version: int,
) -> None:
    """Save arrays and their description as the pair `name` in `folder`, whole or not at all.

    >>> write_pair("counts", "counts", {"index": np.arange(3)}, {"skipped": {}}, version=1)
    ... # doctest: +SKIP

    `about` is any JSON object without the keys `schema`, `version`, `sha256` and `checksum`.
    Raises `FileError` on a full disk or a read-only folder; the pair that was there stays.
    """
    target = Path(folder) / f"{name}.json"
    with _refuse_in_one_sentence(target), _new_folder(target.parent):
        payload = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
        digest = hashlib.sha256(payload).hexdigest()
        body = {"schema": f"dspa_nn.{name}", "version": version, "sha256": digest, **about}
        body["checksum"] = sha256_of_json(body)
        text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        tensors = _tensor_path(target.parent, name, digest)
        already_there = tensors.exists()
        any_tensors = f"{glob.escape(name)}-{'[0-9a-f]' * 16}.safetensors"
        _remove_left_behind(target.parent, glob.escape(target.name), any_tensors)
        try:
            with ExitStack() as open_files:
                temporaries = [
                    _write_temporary(tensors, payload, open_files),
                    _write_temporary(target, text.encode() + b"\n", open_files),
                ]
                temporaries[0].replace(tensors)
                _sync_folder(target.parent)
                temporaries[1].replace(target)
                _sync_folder(target.parent)
        except BaseException:
            if not already_there and not _names(target, digest):
                tensors.unlink(missing_ok=True)
            raise
        for older in target.parent.glob(any_tensors):
            if older != tensors:  # harmless when it cannot be removed: no JSON names it
                _remove_unless_held(older, in_doubt=True)


def read_pair(
    folder: str | os.PathLike[str], name: str, *, version: int, verify: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the pair `name` from `folder`: memory-mapped tensors, and the JSON object.

    >>> tensors, about = read_pair("counts", "counts", version=1)        # doctest: +SKIP

    Raises `FileError` when a file is missing, cut short, changed, or of a schema version above
    `version`, the newest one that the caller can read. Without `verify` the arrays are not read
    through for their checksum, so that changed bytes in them go unnoticed.
    """
    path = Path(folder) / f"{name}.json"
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
        with safetensors.safe_open(str(tensors), framework="pt") as opened:
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
        about = json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(damaged) from error
    if not isinstance(about, dict) or not isinstance(about.get("version"), int):
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
    if checksum != sha256_of_json(about) or not is_hash:
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


def _write_temporary(target: Path, payload: bytes, open_files: ExitStack) -> Path:
    """Write beside the target, and lock the file, until `open_files` close; then it is gone."""
    file, temporary = _locked_temporary(target)
    open_files.enter_context(file)
    open_files.callback(temporary.unlink, missing_ok=True)
    file.write(payload)
    file.flush()
    os.fsync(file.fileno())
    if fcntl is None:
        file.close()
    # mkstemp makes files that only their owner reads: give them the usual permissions.
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    return temporary


def _locked_temporary(target: Path) -> tuple[BinaryIO, Path]:
    while True:
        handle, text = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a disk without locks: then nothing is tidied there
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return os.fdopen(handle, "wb"), Path(text)
        os.close(handle)  # taken for left behind, in the moment before it was locked


def _remove_left_behind(folder: Path, *names: str) -> None:
    """Remove the temporary files of writers that died; names: patterns of what they were to be."""
    for name in names:
        for path in folder.glob(f".{name}.*.tmp"):
            _remove_unless_held(path, in_doubt=False)


def _remove_unless_held(path: Path, *, in_doubt: bool) -> None:
    """Remove a file that no writer holds; in_doubt: also where there are no locks to tell."""
    with contextlib.suppress(OSError):
        if fcntl is None:
            if in_doubt:
                path.unlink()
            return
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            except OSError:
                if not in_doubt:
                    return
            path.unlink()


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make the folder; should the writing fail, remove it again if it was not there before."""
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def _refuse_in_one_sentence(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            f"{target} could not be written ({reason}), and what was there before is unchanged; "
            "free some space or choose another folder."
        ) from error
