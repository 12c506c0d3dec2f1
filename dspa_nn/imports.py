"""Imports that nnsight breaks where they come after it, and imports of untyped libraries.

`import nnsight` mounts its `.save` on every Python object, for good. Two libraries in use here
look through all attributes of their classes when they are imported, and stumble over it: beartype
0.23 raises "unhashable type", and anyio 4.16, which every web server stands on and which loads its
parts late, raises "Attribute 'save' is missing its type annotation". Imported under
`without_nnsight_save`, they load and afterwards work as usual.
"""

import importlib
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# anyio imports these when they are first needed: for a web server, within its first request.
_PARTS = {
    "beartype": ("beartype.door",),
    "anyio": ("anyio.abc", "anyio._backends._asyncio", "anyio.streams.tls", "anyio.streams.file"),
}


def late(name: str) -> ModuleType:
    """Import a module that may come after nnsight, and the parts that it would load later.

    >>> late("beartype").__name__
    'beartype'

    Write `late("anyio")` before a web server (FastAPI, LitServe, Ray Serve) is started in a process
    that has imported nnsight; without it each request is answered with status 500.

    Raises:
        ImportError: there is no such module here.
    """
    top = name.partition(".")[0]
    missing = [part for part in (name, *_PARTS.get(top, ())) if part not in sys.modules]
    if missing:
        with without_nnsight_save():
            for part in missing:
                importlib.import_module(part)
    return sys.modules[name]


def untyped(name: str) -> Any:
    """Import a library whose types are incomplete, as one that may be anything to a type checker.

    >>> untyped("json").dumps([1])
    '[1]'
    """
    return importlib.import_module(name)


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose names are imported when first used.

    >>> get, listed = lazy_names("json", {"decoder": ["JSONDecoder"]})
    >>> get("JSONDecoder").__name__, listed()
    ('JSONDecoder', ['JSONDecoder'])

    Args:
        package: its `__name__`.
        names: public names by the submodule that holds them.
    """
    attach: Any = untyped("lazy_loader").attach
    submodules = {module: list(listed) for module, listed in names.items()}
    get, listed, _ = attach(package, submod_attrs=submodules)
    return get, listed


@contextmanager
def without_nnsight_save() -> Generator[None, None, None]:
    """Take nnsight's `.save` off every object inside the block, and mount it again after it.

    >>> with without_nnsight_save():
    ...     hasattr(object(), "save")
    False

    Nothing is done where nnsight is not imported or mounts no `.save`. No trace may run meanwhile,
    in any thread: the values in it would have no `.save`.
    """
    with _removed.lock:
        _removed.depth += 1
        if _removed.depth == 1:
            _removed.save = _unmount()
    try:
        yield
    finally:
        with _removed.lock:
            _removed.depth -= 1
            if _removed.depth == 0 and _removed.save is not None:
                _mount(_removed.save)
                _removed.save = None


class _Removed:
    """What was taken off, and how many blocks, of all threads together, need it off."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.save: Callable[..., Any] | None = None


_removed = _Removed()


def _unmount() -> Callable[..., Any] | None:
    """Take `.save` off `object`; return the function behind it, or None where there was none."""
    mounted: Any = vars(object).get("save")
    if mounted is None or "nnsight" not in sys.modules:
        return None
    importlib.import_module("nnsight._c").unmount("save")
    return mounted.__func__


def _mount(save: Callable[..., Any]) -> None:
    importlib.import_module("nnsight._c").mount(save, "save")
