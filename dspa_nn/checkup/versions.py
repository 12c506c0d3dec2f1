"""Versions: what this package asks for, pairs that are known to fail, and which extras are here."""

import sys
from importlib import metadata
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from dspa_nn.checkup.findings import Findings

_NAME = "dspa-nn"
_SHOWN = ("torch", "transformers", "nnsight", "sae-lens", "huggingface-hub")


class BadPair(NamedTuple):
    """Two installed versions that do not work together, though each may be asked for.

    Attributes:
        one, other: requirements; where both are met there is a problem.
        what: what fails. fix: what to do.
        problem: whether all runs fail, or only some.
    """

    one: str
    other: str
    what: str
    fix: str
    problem: bool = False


# Each was seen here; where it was is in the comment.
BAD_PAIRS = (
    # An environment for inspect-ai, docs/howto/inspect.md.
    BadPair(
        "inspect-ai>=0.3", "fsspec>2026.6.0", "Inspect asks for an older fsspec",
        "an environment of its own: pip install 'dspa-nn[inspect]'",
    ),
    # alpaca-eval 0.6.6 beside setuptools 82: ModuleNotFoundError: pkg_resources.
    BadPair(
        "alpaca-eval<0.7", "setuptools>=81", "AlpacaEval imports pkg_resources, which is gone",
        "pip install 'setuptools<81'",
    ),
    # vLLM 0.33 in a resolver's run.
    BadPair(
        "vllm>=0.30", "transformers>=5.21", "vLLM asks for transformers below 5.21",
        "serve with `dspa serve`, or give vLLM an environment of its own",
    ),
    # repeng and steering-vectors in a resolver's run; their files are read without them.
    BadPair(
        "repeng>=0.1", "numpy>=2", "repeng asks for numpy below 2",
        "dspa_nn.baselines reads its vectors from files: uninstall repeng",
    ),
    BadPair(
        "steering-vectors>=0.1", "transformers>=5", "it asks for transformers below 5",
        "dspa_nn.baselines reads its vectors from files: uninstall steering-vectors",
    ),
    # Several nnsight 0.9 names have moved; graph/adapter.py is written for 0.8.
    BadPair(
        "nnsight>=0.9", "torch>=2", "this package is written for nnsight 0.8",
        "pip install 'nnsight>=0.8.1,<0.9'", problem=True,
    ),
)  # fmt: skip


def installed(name: str) -> str | None:
    """The version of a distribution that is installed, or None.

    >>> installed("no-such-distribution") is None
    True
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def look_at_versions(findings: Findings) -> None:
    """Python, the packages that are asked for, and pairs that are known to fail.

    >>> findings = Findings()
    >>> look_at_versions(findings)
    >>> [one.name for one in findings][:2]
    ['python', 'packages']
    """
    asked = [Requirement(text) for text in metadata.requires(_NAME) or ()]
    _python(findings)
    needed = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [one for one in needed if not _met(one)]
    shown = ", ".join(f"{name} {installed(name) or 'absent'}" for name in _SHOWN)
    if wrong:
        words = "; ".join(
            f"{one.name} is {installed(one.name) or 'absent'}, and {one.specifier} is asked for"
            for one in wrong
        )
        quoted = " ".join(f"'{one.name}{one.specifier}'" for one in wrong)
        findings.add("packages", "problem", words, f"pip install {quoted}")
    else:
        findings.add("packages", "ok", shown)
    for pair in BAD_PAIRS:
        one, other = Requirement(pair.one), Requirement(pair.other)
        if _met(one) and _met(other):
            words = (
                f"{one.name} {installed(one.name)} with {other.name} {installed(other.name)}: "
                f"{pair.what}"
            )
            findings.add("known bad pair", "problem" if pair.problem else "note", words, pair.fix)
    _extras(findings, asked)


def _python(findings: Findings) -> None:
    about: Any = metadata.metadata(_NAME)
    wanted = str(about.get("Requires-Python") or "")
    here = ".".join(map(str, sys.version_info[:3]))
    if wanted and not Requirement(f"python{wanted}").specifier.contains(here, prereleases=True):
        fix = f"make an environment with Python {wanted}"
        findings.add("python", "problem", f"{here}, and {wanted} is asked for", fix)
    else:
        findings.add("python", "ok", here)


def _extras(findings: Findings, asked: list[Requirement]) -> None:
    """Which extras are whole, by what they ask for."""
    names: list[str] = metadata.metadata(_NAME).get_all("Provides-Extra") or []
    own = [name for name in names if name not in ("test", "docs", "bench")]
    here: list[str] = []
    absent: list[str] = []
    for name in own:
        of = [one for one in asked if one.marker and one.marker.evaluate({"extra": name})]
        of = [one for one in of if one.marker and not one.marker.evaluate({"extra": ""})]
        (here if of and all(_met(one) for one in of) else absent).append(name)
    words = f"installed: {', '.join(here) or 'none'}"
    if absent:
        one = absent[0]
        words += f"; not, or not whole: {', '.join(absent)}"
        fix = f"only where you need one: pip install 'dspa-nn[{one}]'"
        findings.add("extras", "ok", words, fix)
    else:
        findings.add("extras", "ok", words)


def _met(requirement: Requirement) -> bool:
    here = installed(requirement.name)
    if here is None:
        return False
    try:
        return requirement.specifier.contains(Version(here), prereleases=True)
    except InvalidVersion:
        return True
