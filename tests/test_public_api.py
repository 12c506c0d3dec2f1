"""The public API is what was agreed on: a change of it is a decision, written into CHANGELOG.md."""

import tomllib

from dspa_nn import __version__
from tests.conftest import REPOSITORY
from tests.public_api import SNAPSHOT, current


def test_the_public_api_is_that_of_the_snapshot() -> None:
    kept, now = SNAPSHOT.read_text().splitlines(), current().splitlines()
    gone = [line for line in kept if line not in now]
    new = [line for line in now if line not in kept]
    assert kept == now, (
        f"gone or changed: {gone}; new or changed: {new}. If that is meant, say so in CHANGELOG.md "
        "and run python -m tests.public_api"
    )


def test_the_change_log_has_a_section_for_this_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    assert f"\n## {__version__}" in text or "\n## Unreleased" in text


def test_the_citation_names_this_version_and_the_paper() -> None:
    text = (REPOSITORY / "CITATION.cff").read_text()
    assert f"version: {__version__}\n" in text
    assert "2603.21461" in text
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"license: {project['license']}\n" in text
