"""`dspa audit` with hostile text, and what it refuses before anything is loaded."""

from pathlib import Path

import pytest

from tests.cli.test_evaluate import folder as folder
from tests.cli.test_evaluate import model
from tests.cli.test_persona import dspa

HOSTILE = "</script><script>alert(1)</script> {{ 7 * 7 }} {% raw %} \u202eevil \x00 nul"


@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")
def test_hostile_text_is_shown_as_text_and_a_folder_is_made(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "report.html"
    told = dspa(
        "audit", folder / "map", HOSTILE, "--out", page, "--max-new-tokens", 3, *model(folder)
    )
    assert told.exit_code == 0, told.output
    text = page.read_text()
    assert text.count("<script") == 2
    assert "\u202e" not in text
    assert "\x00" not in text
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere", "Hi"), "nowhere holds no map.json"),
        (("", "Hi"), "'' is no path (it is empty)"),
        (("map", "Hi", "--out", "."), "which is a folder; give a file"),
        (("map", "Hi", "--out", "FILE/report.html"), "is a file; give a path below a folder"),
        (
            ("map", "Hi", "--causal", "x.jsonl"),
            "a prompt came with --causal, which tell of the map",
        ),
        (("map", "--remote"), "--remote came without a prompt"),
        (("map", "--causal", "x.jsonl", "--checkpoint", "FILE"), "which is a file; give a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_beforehand(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    told = dspa("audit", *(one.replace("FILE", str(tmp_path / "file")) for one in arguments))
    assert told.exit_code == 1
    assert sentence in told.stderr
    assert told.stderr.count("\n") == 1
    assert told.stdout == ""
