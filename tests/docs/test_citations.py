"""Every citation of docs/method.md, in code and pages, names a section that is there."""

import re
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY

NUMBER = r"\d+(?:\.\d+)?"
CITATION = re.compile(rf"method\.md,? ({NUMBER}(?:(?:, | and | to )\s*{NUMBER})*)")
FOLDERS = ("dspa_nn", "tests", "recipes", "benchmarks", "docs")


def sections() -> set[str]:
    page = (REPOSITORY / "docs" / "method.md").read_text()
    return set(re.findall(rf"^##+ ({NUMBER})\.? ", page, flags=re.MULTILINE))


def citations() -> Iterator[tuple[str, str]]:
    """(where, section) of every citation; a line that ends in a citation goes on in the next."""
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in (".py", ".md") and "assets" not in path.parts:
                text = re.sub(r"\s*\n\s*(?:# )?", " ", path.read_text())
                for cited in CITATION.findall(text):
                    for number in re.findall(NUMBER, cited):
                        yield path.relative_to(REPOSITORY).as_posix(), number


def test_the_page_is_numbered_without_gaps() -> None:
    top = sorted(int(number) for number in sections() if "." not in number)
    assert top == list(range(1, len(top) + 1))


def test_every_citation_has_its_section() -> None:
    cited = list(citations())
    assert len(cited) > 30
    assert not [(where, number) for where, number in cited if number not in sections()]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_other_document_is_cited_by_number(folder: str) -> None:
    pattern = re.compile("METH" + r"OD(\.md)?[,']?s? (section|\d)")
    assert not [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".md") and pattern.search(path.read_text())
    ]
