"""What a user may call, as text: `tests/fixtures/public_api.txt` holds it as it was agreed on.

`python -m tests.public_api` writes the file anew. docs/versioning.md says what a change needs.
"""

import importlib
import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import dspa_nn
from dspa_nn.graph.settings import DEFAULTS

SNAPSHOT = Path(__file__).resolve().parent / "fixtures" / "public_api.txt"
PACKAGE = Path(dspa_nn.__file__).parent
HEAD = "# The public API, written by `python -m tests.public_api`: see docs/versioning.md.\n"


def current() -> str:
    """Commands, settings, every name of the package with its signature, names of each face."""
    commands = importlib.import_module("dspa_nn.cli.commands").COMMANDS  # no face names it
    lines = [f"dspa {command}" for command in sorted(commands)]
    lines += [f"setting {name}={default!r}" for name, default in DEFAULTS.items()]
    lines += [line for name in dspa_nn.__all__ for line in described(name, getattr(dspa_nn, name))]
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        face = importlib.import_module(f"dspa_nn.{folder.name}")
        lines += [f"{face.__name__}.{name}" for name in sorted(getattr(face, "__all__", ()))]
    return HEAD + "\n".join(lines) + "\n"


def described(name: str, value: Any) -> Iterator[str]:
    full = f"dspa_nn.{name}"
    if not inspect.isclass(value):
        yield full + signature(value)
        return
    parents = [base.__name__ for base in value.__bases__ if base is not object]
    yield f"{full}{'(' + ', '.join(parents) + ')' if parents else ''}"
    if issubclass(value, Exception):
        return
    yield f"{full}.__init__{signature(value)}"
    for own in sorted(dir(value)):
        if own.startswith("_") or own in vars(object):  # nnsight mounts `save` on every object
            continue
        if isinstance(inspect.getattr_static(value, own), property | cached_property):
            yield f"{full}.{own} (property)"
        elif callable(getattr(value, own)):
            yield f"{full}.{own}{signature(getattr(value, own))}"


def signature(value: Any) -> str:
    """Names, kinds and defaults of the parameters; annotations are a type checker's affair."""
    try:
        given = inspect.signature(value)
    except ValueError:
        return "(...)"
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in given.parameters.values()]
    return str(given.replace(parameters=bare, return_annotation=inspect.Signature.empty))


if __name__ == "__main__":
    SNAPSHOT.write_text(current())
