"""A notebook is executed as IPython does, cell by cell, and its objects show themselves."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from dspa_nn.imports import late
from tests import eval_zoo

mpl.use("agg")
NOTEBOOK = Path(__file__).parent / "notebook.ipynb"
SHOWN = (
    "ActivationCounts: ", "ConditionalDifferenceMap: ", "Plan from ", "EditLog: ", "the map edits ",
    "Coverage of a map by ", "top 5 of maps fitted on halves of 12 triples", "Alpha curve over 3 ",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of IPython's own parts
def test_a_notebook_runs_and_shows_its_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("IPython")
    shell_class: Any = late("IPython.core.interactiveshell").InteractiveShell
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = shell_class.instance(user_ns={
        "dspa": eval_zoo.dspa(), "triples": eval_zoo.triples(12),
        "prompt": eval_zoo.dspa().render("sun moon"),
    })  # fmt: skip
    try:
        htmls: list[str] = []
        for cell in json.loads(NOTEBOOK.read_text())["cells"]:
            if cell["cell_type"] != "code":
                continue
            done = shell.run_cell("".join(cell["source"]), store_history=False)
            done.raise_error()
            data, _ = shell.display_formatter.format(done.result)
            htmls.append(data.get("text/html", ""))
    finally:
        shell_class.clear_instance()
    for html, title in zip(htmls, SHOWN, strict=False):
        assert title in html
        assert "<script" not in html
    assert htmls[len(SHOWN) :] == [""] * 4  # pictures, and a path
    assert (tmp_path / "report.html").exists()
