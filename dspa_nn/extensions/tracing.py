"""A call run again, line by line, to learn which line of an extension is at fault."""

import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from dspa_nn.extensions.changes import copy_of, version_of
from dspa_nn.extensions.source import Written


class Traced(NamedTuple):
    """What a call did on which line.

    Attributes:
        returned: the line that it returned from, or None.
        changed: for each argument that was changed in place, the line that first did.
    """

    returned: int | None
    changed: dict[str, int]


def traced(subject: Written, given: Mapping[str, Any], state: Any = None) -> Traced:
    """Run a call again, line by line, to learn which line is at fault."""
    given = copy_of(given)
    versions = {name: version_of(value) for name, value in given.items()}
    changed: dict[str, int] = {}
    lines: list[int] = []
    last: list[int] = []

    def local(frame: types.FrameType, event: str, _: Any) -> Any:
        for name, value in given.items():
            if name not in changed and version_of(value) != versions[name]:
                changed[name] = last[-1] if last else frame.f_lineno
        last.append(frame.f_lineno)
        if event == "return":
            lines.append(frame.f_lineno)
        return local

    def outer(frame: types.FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code is subject.call.__code__ else None

    before = sys.gettrace()
    sys.settrace(outer)
    try:
        subject.call(*(() if state is None else (state,)), **given)
    except Exception:  # noqa: BLE001 - the call before it did not raise, or was told of
        return Traced(None, changed)
    finally:
        sys.settrace(before)
    return Traced(lines[-1] if lines else None, changed)
