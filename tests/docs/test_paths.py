"""Files that pages name are there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:tests|dspa_nn|recipes|benchmarks)/[\w./-]*)", page.read_text())
    missing = [name for name in named if not (REPOSITORY / name).exists()]
    assert not missing
