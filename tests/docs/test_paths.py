"""Files that pages name are there."""

import importlib
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


def test_both_tables_of_longer_experiments_name_every_script() -> None:
    recipes = REPOSITORY / "recipes"
    scripts = [path.name for path in recipes.glob("*.py") if "__main__" in path.read_text()]
    scripts += [path.name for path in recipes.glob("*.sh")]
    assert len(scripts) > 20
    readme = (recipes / "README.md").read_text()
    page = (REPOSITORY / "docs" / "recipes" / "index.md").read_text()
    assert not [name for name in scripts if f"`{name}`" not in readme]
    assert not [name for name in scripts if f"`recipes/{name}`" not in page]


def test_the_reference_has_a_line_for_every_command() -> None:
    page = (REPOSITORY / "docs" / "api" / "command.md").read_text()
    commands = importlib.import_module("dspa_nn.cli.commands").COMMANDS  # no face names it
    assert not [name for name in commands if f"| `dspa {name}" not in page]
