"""What was found: each with whether it is well, and what to do where it is not."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "problem"]
_WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    >>> Finding("python", "ok", "3.11.7").fix is None
    True

    Attributes:
        name: what was looked at, in a word or two.
        state: "ok"; "note", where it stands in the way of some runs only; or "problem".
        found: what was found.
        fix: what to do, for a note or a problem.
    """

    name: str
    state: State
    found: str
    fix: str | None = None


class Findings:
    """All that was found, in order.

    >>> findings = Findings()
    >>> findings.add("hub", "note", "does not answer", "unset HF_HUB_OFFLINE")
    >>> print(findings, findings.well)
    note     hub              does not answer
                              -> unset HF_HUB_OFFLINE
    nothing stands in the way True
    """

    def __init__(self) -> None:
        self._all: list[Finding] = []

    def add(self, name: str, state: State, found: str, fix: str | None = None) -> None:
        """Add one."""
        self._all.append(Finding(name, state, found, fix))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def well(self) -> bool:
        """Whether there is no problem."""
        return all(one.state != "problem" for one in self._all)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"well": self.well, "findings": [asdict(one) for one in self._all]}

    def __str__(self) -> str:
        lines: list[str] = []
        for one in self._all:
            lines += _wrapped(f"{one.state:<8} {one.name:<16} ", one.found)
            if one.fix:
                lines += _wrapped(" " * 26 + "-> ", one.fix)
        problems = sum(one.state == "problem" for one in self._all)
        told = {0: "nothing stands in the way", 1: "1 problem"}.get(
            problems, f"{problems} problems"
        )
        return "\n".join([*lines, told])

    __repr__ = __str__


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head),
        break_long_words=False, break_on_hyphens=False,
    ) or [head.rstrip()]  # fmt: skip
