"""A lock on disk that ends with its process."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from dspa_nn.imports import untyped


@contextmanager
def held(lock: Any, taken: Callable[[], object]) -> Generator[None]:
    """Hold a `filelock.FileLock` in the block; where a disk knows no locks, hold nothing.

    >>> from filelock import FileLock
    >>> with held(FileLock("run.lock"), lambda: print("another run has it")):
    ...     print("alone")
    alone

    taken: called where another process holds it: raises, or returns so that it is waited for.
    """
    waits = False
    try:
        lock.acquire(timeout=0)
    except untyped("filelock").Timeout:
        waits = True
    except (OSError, NotImplementedError):  # a disk without locks, or not to be written to
        pass
    if waits:
        taken()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
