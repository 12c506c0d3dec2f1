"""Every recipe of the gallery runs by itself, and the processes of pages are held to limits."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from recipes._gallery import GROUPS, RecipeError, read_gallery, read_recipe
from tests.conftest import REPOSITORY

HOOKS = REPOSITORY / "docs" / "hooks"
RECIPES = read_gallery()

HEADER = """\
# ---
# title: Tea
# summary: How to make it.
# group: start
# order: 1
# tags: [tea]
# minutes: 1
# memory: 0.1
# needs: []
# ---

# %% [markdown]
# ## Water
#
# Boil it.


# %%
print("hot")
"""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_says_what_it_is_and_what_it_takes(recipe: Any) -> None:
    assert recipe.summary.endswith(".")
    assert 0 < recipe.minutes <= 15
    assert 0 < recipe.memory <= 16
    assert recipe.tags
    assert [cell.kind for cell in recipe.cells[:2]] == ["markdown", "code"]
    lines = recipe.path.read_text().splitlines()
    for cell in recipe.cells:
        if cell.kind == "code":
            assert lines[cell.line - 1 :][: cell.text.count("\n") + 1] == cell.text.split("\n")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_runs_by_itself(recipe: Any, embedded: str, tmp_path: Path) -> None:
    if recipe.missing:
        pytest.skip(f"this recipe needs {'; '.join(recipe.missing)}")
    done = subprocess.run(
        [sys.executable, str(recipe.path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
        timeout=recipe.limit,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout
    assert not list(tmp_path.iterdir()), "a recipe leaves nothing in the folder it is run from"


def test_a_recipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tea.py"
    path.write_text(HEADER)
    recipe = read_recipe(path)
    assert recipe.title == "Tea"
    assert recipe.group in GROUPS
    assert [(cell.kind, cell.text) for cell in recipe.cells] == [
        ("markdown", "## Water\n\nBoil it."),
        ("code", 'print("hot")'),
    ]


@pytest.mark.parametrize(
    ("line", "changed", "said"),
    [
        ("# order: 1\n", "", "order"),
        ("group: start", "group: end", "group is one of start, "),
        ("needs: []", "needs: [milk]", "needs milk, not one of"),
        ("# ---\n", "", "without a header"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, line: str, changed: str, said: str) -> None:
    path = tmp_path / "tea.py"
    path.write_text(HEADER.replace(line, changed))
    with pytest.raises(RecipeError, match=said):
        read_recipe(path)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.syspath_prepend(str(HOOKS))
    from session import Session  # pyright: ignore[reportMissingImports]

    begun = []

    def begin(*given: Any) -> Any:
        begun.append(Session(*given))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def test_the_blocks_of_a_page_share_their_names(session: Callable[..., Any]) -> None:
    page = session()
    assert page.run("x = 3")["text"] == ""
    answer = page.run("import os\nprint(x + 1)\nos.system('echo noise')")
    assert (answer["text"], answer["error"], page.failed) == ("4\n", None, False)
    assert page.gigabytes > 0


def test_a_failing_block_says_on_which_line(session: Callable[..., Any]) -> None:
    page = session()
    answer = page.run("\n1 / 0", "recipes/tea.py", 10)
    assert 'recipes/tea.py", line 11' in answer["error"]
    assert page.failed


@pytest.mark.slow
def test_a_block_that_takes_too_long_is_stopped(session: Callable[..., Any]) -> None:
    page = session(1.0)
    assert page.run("import time; time.sleep(60)")["error"].endswith("longer than 1 seconds")


def test_a_process_that_dies_fails_its_block(session: Callable[..., Any]) -> None:
    answer = session().run("import os, sys; sys.stderr.write('why'); os._exit(1)")
    assert answer["error"] == "the process ended: why"


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_figures_follow_the_colour_of_the_page(session: Callable[..., Any]) -> None:
    code = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.title('two')"
    (figure,) = session().run(code)["figures"]
    assert figure.startswith("<svg")
    assert ">two</text>" in figure
    assert "#000000" not in figure


@pytest.mark.slow
def test_a_tracing_context_finds_its_source(session: Callable[..., Any]) -> None:
    code = """\
        import torch
        from nnsight import NNsight
        model = NNsight(torch.nn.Sequential(torch.nn.Linear(2, 2)))
        with model.trace(torch.ones(1, 2)):
            out = model[0].output.save()
        print(tuple(out.shape))
        """
    assert session().run(textwrap.dedent(code))["text"] == "(1, 2)\n"


@pytest.mark.skipif(find_spec("griffe") is None, reason="Griffe comes with the docs extra")
def test_examples_of_docstrings_become_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOOKS))
    from docstrings import readable  # pyright: ignore[reportMissingImports]

    assert readable("Add.\n\nExample:\n    >>> 1") == "Add.\n\nExamples:\n    >>> 1"
    assert readable("Add.\n\n>>> 1 + 1\n2\n\nMore.") == (
        "Add.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    )
    assert readable("Add.\n\nand so on:\n    >>> 1 + 1\n    2\n\nArgs:\n    a: one.") == (
        "Add.\n\nand so on:\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:\n    a: one."
    )
