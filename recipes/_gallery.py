"""What a recipe in `recipes/gallery/` is: a header, and cells of Markdown and of code.

The site builds a page and a card from each; the tests run each. Nothing here loads a model.
"""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
GALLERY = REPOSITORY / "recipes" / "gallery"

# The headings of the gallery, in the order of the page.
GROUPS = {"start": "Start", "steer": "Steer", "evaluate": "Evaluate", "scale": "Scale up"}


class Need(NamedTuple):
    """What a recipe may need beyond `make demo`."""

    text: str
    is_here: Callable[[], bool]


NEEDS = {
    "matplotlib": Need(
        "matplotlib (`pip install -c constraints.txt matplotlib`)",
        lambda: find_spec("matplotlib") is not None,
    ),
    "ray": Need(
        "Ray (`pip install -c constraints.txt -e '.[ray]'`)",
        lambda: find_spec("ray") is not None,
    ),
    "tune": Need(
        "Optuna (`pip install -c constraints.txt -e '.[tune]'`)",
        lambda: find_spec("optuna") is not None,
    ),
    "eval": Need(
        "openai (`pip install -c constraints.txt -e '.[eval]'`)",
        lambda: find_spec("openai") is not None,
    ),
    "lm-eval": Need(
        "lm-evaluation-harness (`pip install -c constraints.txt -e '.[lm-eval]'`)",
        lambda: find_spec("lm_eval") is not None,
    ),
    "serve": Need(
        "FastAPI and uvicorn (`pip install -c constraints.txt -e '.[serve]'`)",
        lambda: find_spec("fastapi") is not None and find_spec("uvicorn") is not None,
    ),
    "ndif": Need(
        "an NDIF server, named by `NDIF_HOST` (`make ndif` starts one on this machine)",
        lambda: bool(os.environ.get("NDIF_HOST")),
    ),
    "gpu": Need("a CUDA device", lambda: shutil.which("nvidia-smi") is not None),
    "data": Need(
        "the preference data in the folder that `DSPA_DATA` names",
        lambda: bool(os.environ.get("DSPA_DATA")),
    ),
}

HEADER = re.compile(r"\A# ---\n(?P<yaml>(?:#.*\n)+?)# ---\n")
MARK = re.compile(r"^# %%(?P<markdown> \[markdown\])?.*$", re.MULTILINE)
FIELDS = {"title", "summary", "group", "order", "tags", "minutes", "memory", "needs"}


class RecipeError(Exception):
    """A file in `recipes/gallery/` is no recipe; says which line of its header is at fault."""


class Cell(NamedTuple):
    """One cell: Markdown, or code and the line of the file on which it begins (from 1)."""

    kind: Literal["markdown", "code"]
    text: str
    line: int


@dataclass(frozen=True)
class Recipe:
    """A percent-cell script.

    Attributes:
        group: a key of `GROUPS`; order: its place among the cards of that group.
        minutes: on two cores, with the model fetched before. memory: the peak, in GB.
        needs: keys of `NEEDS`.
    """

    path: Path
    title: str
    summary: str
    group: str
    order: int
    tags: tuple[str, ...]
    minutes: float
    memory: float
    needs: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def needs_in_words(self) -> list[str]:
        return [NEEDS[need].text for need in self.needs]

    @property
    def missing(self) -> list[str]:
        """What it needs and this machine lacks, in words."""
        return [NEEDS[need].text for need in self.needs if not NEEDS[need].is_here()]

    @property
    def limit(self) -> float:
        """Seconds after which a run is stopped: four times what it is said to take."""
        return max(120, 240 * self.minutes)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from its file.

    Raises:
        RecipeError: a field of the header is missing, unknown, or not one of its choices.
    """
    text = path.read_text()
    header = HEADER.match(text)
    if header is None:
        raise RecipeError(f"{path.name} opens without a header between two lines `# ---`")
    fields = yaml.safe_load(re.sub(r"^# ?", "", header["yaml"], flags=re.MULTILINE))
    if set(fields) != FIELDS:
        wrong = ", ".join(sorted(set(fields) ^ FIELDS))
        raise RecipeError(f"{path.name}: {wrong} is missing from its header, or is no field of it")
    if fields["group"] not in GROUPS:
        raise RecipeError(f"{path.name}: group is one of {', '.join(GROUPS)}")
    if unknown := set(fields["needs"]) - set(NEEDS):
        raise RecipeError(f"{path.name}: needs {', '.join(unknown)}, not one of {', '.join(NEEDS)}")
    fields |= {name: tuple(fields[name]) for name in ("tags", "needs")}
    return Recipe(path=path, cells=tuple(_cells(text, header.end())), **fields)


def read_gallery() -> list[Recipe]:
    """Read every recipe, in the order of their groups and in these."""
    recipes = [read_recipe(path) for path in GALLERY.glob("*.py")]
    groups = list(GROUPS)
    return sorted(recipes, key=lambda each: (groups.index(each.group), each.order, each.name))


def _cells(text: str, start: int) -> list[Cell]:
    marks = list(MARK.finditer(text, start))
    cells: list[Cell] = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = text[mark.end() + 1 : following.start() if following else len(text)]
        lines = body.rstrip().split("\n")
        blank = next((index for index, line in enumerate(lines) if line.strip()), 0)
        first = text.count("\n", 0, mark.end()) + 2 + blank
        if mark["markdown"]:
            prose = "\n".join(re.sub(r"^# ?", "", line) for line in lines[blank:])
            cells.append(Cell("markdown", prose, first))
        else:
            cells.append(Cell("code", "\n".join(lines[blank:]), first))
    return cells
