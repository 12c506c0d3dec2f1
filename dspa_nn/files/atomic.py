"""Whole files on disk: what interrupts a save leaves the old file or the new one, never a part.

Until it is complete a file is a hidden `.tmp`, which nothing reads. Its writer holds a lock on it
until the save is over, and the system lets go of the lock when the writer dies. So the next save
of the same name removes what a dead writer left behind, and nothing that a living one needs.
"""

import contextlib
import glob
import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from dspa_nn.errors import FileError
from dspa_nn.files.paths import as_path

try:
    import fcntl
except ImportError:  # Windows: no such locks, and an open file cannot be put in another's place
    fcntl: Any = None


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a whole file or leave what was there: temporary file, fsync, replace.

    >>> write_atomically("demo/report.json", "{}")

    Raises:
        FileError: the folder cannot be made or written, or the disk is full.
    """
    target = as_path(path)
    payload = data.encode() if isinstance(data, str) else data
    with saving(target):
        remove_left_behind(target.parent, glob.escape(target.name))
        with ExitStack() as open_files:
            write_temporary(target, payload, open_files).replace(target)
        sync_folder(target.parent)


@contextlib.contextmanager
def saving(target: Path) -> Generator[None, None, None]:
    """Make the folder of a file that is to be saved; should that fail, undo it and say so.

    Raises:
        FileError: an `OSError` came from the block.
    """
    folder = target.parent
    try:
        was_there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            if not was_there:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            f"{target} could not be written ({reason}), and what was there before is unchanged; "
            "free some space or choose another folder."
        ) from error


def write_temporary(target: Path, payload: bytes, open_files: ExitStack) -> Path:
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


def remove_left_behind(folder: Path, *names: str) -> None:
    """Remove the temporary files of writers that died; names: patterns of what they were to be."""
    for name in names:
        for path in folder.glob(f".{name}.*.tmp"):
            remove_unless_locked(path, in_doubt=False)


def remove_unless_locked(path: Path, *, in_doubt: bool) -> None:
    """Remove a file unless its writer locks it; in_doubt: also where there are no locks to tell."""
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


def sync_folder(folder: Path) -> None:
    """Have the names in a folder, not only the bytes of its files, survive a loss of power."""
    with contextlib.suppress(OSError):  # not every system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_folder(what: str, path: Path) -> None:
    """Refuse, before any work is done, a folder to write to that is a file, or lies below one.

    >>> require_folder("out", Path("map"))

    Raises:
        FileError: naming it.
    """
    if path.exists() and not path.is_dir():
        raise FileError(f"{what} is {path}, which is a file; give a folder")
    _require_parents(what, path)


def require_file(what: str, path: Path) -> None:
    """Refuse, before any work is done, a file to write that is a folder, or lies below a file.

    >>> require_file("out", Path("map/report.html"))

    Raises:
        FileError: naming it.
    """
    if path.is_dir():
        raise FileError(f"{what} is {path}, which is a folder; give a file")
    _require_parents(what, path)


def _require_parents(what: str, path: Path) -> None:
    above = next((one for one in path.parents if one.exists()), Path())
    if not above.is_dir():
        raise FileError(f"{what} is {path}, and {above} is a file; give a path below a folder")
