"""The page on architecture names packages and modules that exist, and links every box."""

import re

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
PACKAGE = REPOSITORY / "dspa_nn"


def sections() -> dict[str, str]:
    """Text of each section on a package, by its name."""
    parts = re.split(r"^### (\w+)$", PAGE.split("## The packages")[1], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_package_has_its_section() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert packages <= set(sections()) <= packages | modules


def test_every_module_that_is_named_exists() -> None:
    for name, text in sections().items():
        for module in re.findall(r"`(\w+\.py)`", text):
            assert (PACKAGE / name / module).exists() or (PACKAGE / module).exists(), module
    for path in re.findall(r"`(\w+/\w+\.py)`", PAGE):
        assert (PACKAGE / path).exists(), path


def test_every_box_is_a_link() -> None:
    for diagram in re.findall(r"```mermaid\n(.*?)```", PAGE, flags=re.DOTALL):
        boxes = set(re.findall(r"\b(\w+)\[\"", diagram))
        boxes -= set(re.findall(r"subgraph (\w+)", diagram))
        linked = dict(re.findall(r"click (\w+) \"#(\w+)\"", diagram))
        assert boxes == set(linked)
        assert set(linked.values()) <= set(sections())
