"""Paths as a shell reads them, wherever a path is taken: `~` is the home folder."""

import os
import reprlib
from pathlib import Path
from typing import TypeAlias

from dspa_nn.errors import FileError

PathLike: TypeAlias = str | os.PathLike[str]


def as_path(path: PathLike) -> Path:
    """A path with a leading `~` or `~user` written out.

    >>> as_path("~/maps").is_absolute(), as_path("maps").as_posix()
    (True, 'maps')

    Raises:
        FileError: it is no path (empty, a NUL in it, an unknown user's home), or of another type.
    """
    try:
        whole = Path(path).expanduser()
        reason = "it holds a NUL character" if "\0" in str(whole) else None
        if isinstance(path, str) and not path.strip():  # pathlib takes it for the folder at hand
            reason = "it is empty"
        if reason is None:
            os.fsencode(whole)  # a lone surrogate has no bytes
            whole.exists()  # a name that is too long for the system is known here
    except (TypeError, ValueError, RuntimeError) as error:
        whole, reason = Path(), str(error).rstrip(".")
    except PermissionError:  # whoever opens it says so
        whole, reason = Path(path).expanduser(), None
    except OSError as error:
        whole, reason = Path(), str(error.strerror)
    if reason is not None:
        raise FileError(
            f"{reprlib.repr(path)} is no path ({reason}); give the path of a file or folder as a "
            "string or a Path."
        )
    return whole


def cache_dir() -> Path:
    """The folder in which this package keeps things (`DSPA_CACHE`, else `~/.cache/dspa_nn`).

    >>> (cache_dir() / "counts").name
    'counts'
    """
    root = os.environ.get("DSPA_CACHE")
    return as_path(root) if root else Path.home() / ".cache" / "dspa_nn"
