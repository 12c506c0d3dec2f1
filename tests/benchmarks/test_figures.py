"""The figures of the documentation are those of its tables."""

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("matplotlib")

from benchmarks import figures

FOLDER = REPOSITORY / "docs" / "figures"


def test_a_cell_is_read_as_it_was_written() -> None:
    assert figures.numbers("-0.047 [-0.094, -0.004]") == [-0.047, -0.094, -0.004]
    assert figures.numbers("6.515 (7.82x)") == [6.515, 7.82]
    assert figures.numbers("104,222,238") == [104_222_238]
    assert figures.value("61,000") == 61_000


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_shows_what_its_table_says(name: str, tmp_path: Path) -> None:
    made = figures.save(name, tmp_path)
    assert made.read_text() == (FOLDER / made.name).read_text(), (
        "the table was changed and the figure was not: run python -m benchmarks.figures"
    )


def test_every_figure_has_a_page() -> None:
    pages = "".join(path.read_text() for path in (REPOSITORY / "docs").glob("*.md"))
    shown = {path.name for path in FOLDER.glob("*.svg")}
    assert shown == {f"{name}.svg" for name in figures.FIGURES}
    assert all(f"](figures/{name})" in pages for name in shown)
