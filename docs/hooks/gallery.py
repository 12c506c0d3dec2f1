"""The gallery: a page for every file in `recipes/gallery/`, run as it is built, and the cards.

`recipes/index.md` holds the marker `<!-- cards -->`, and the nav of mkdocs.yml the entry
`recipes/index.md`; the pages are put after it, so that adding a recipe is adding one file.
With `DOCS_RUN=0` nothing is run, for a quick look at the pages.
"""

import html as escaping
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import execute
from execute import on_build_error as on_build_error
from session import Session

from recipes._gallery import GROUPS, REPOSITORY, Recipe, read_gallery

INDEX = "recipes/index.md"
CARDS = "<!-- cards -->"
PICTURE = '<span class="recipe-picture" data-recipe="{}"></span>'
MEASURED = '<p class="recipe-measured"></p>'

by_uri: dict[str, Recipe] = {}


def on_config(config: Any) -> Any:
    """Read the recipes, and put them into the nav, a section for each group."""
    by_uri.clear()
    by_uri.update({f"recipes/{recipe.name}.md": recipe for recipe in read_gallery()})
    sections = [
        {heading: [uri for uri, recipe in by_uri.items() if recipe.group == group]}
        for group, heading in GROUPS.items()
    ]
    for pages in lists_of(config.nav):
        if INDEX in pages:
            pages += [section for section in sections if any(section.values())]
    return config


def lists_of(nav: Any) -> Iterator[list[Any]]:
    """Every list of the nav, whatever section it belongs to."""
    if isinstance(nav, list):
        yield nav
        for entry in nav:
            yield from lists_of(entry)
    elif isinstance(nav, dict):
        for entry in nav.values():
            yield from lists_of(entry)


def on_files(files: Files, config: Any) -> Files:
    for uri, recipe in by_uri.items():
        files.append(File.generated(config, uri, content=page_of(recipe)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri == INDEX:
        return markdown.replace(CARDS, "\n".join(cards_of(group) for group in GROUPS))
    recipe = by_uri.get(page.file.src_uri)
    if recipe is not None:
        execute.sessions[recipe.name] = Session(recipe.limit)
    return markdown


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Say what the run took, and end the processes of this page."""
    recipe = by_uri.get(page.file.src_uri)
    if recipe is not None and (session := execute.sessions[recipe.name]).blocks:
        said = f"{duration(session.seconds)}, {session.gigabytes:.1f} GB"
        text = f'<p class="recipe-measured">Run when this page was built: {said}.</p>'
        html = html.replace(MEASURED, text)
    execute.close_all()
    return html


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def cost_of(recipe: Recipe) -> str:
    time = "under a minute" if recipe.minutes < 1 else f"{recipe.minutes:g} min"
    return f"{time}, {recipe.memory:g} GB"


def tags_of(recipe: Recipe) -> str:
    return " ".join(f'<span class="recipe-tag">{tag}</span>' for tag in recipe.tags)


def page_of(recipe: Recipe) -> str:
    path = recipe.path.relative_to(REPOSITORY)
    run_it = f"```bash\n.venv/bin/python {path}\n```"
    lines = [f"# {recipe.title}", recipe.summary, tags_of(recipe), run_it]
    if recipe.needs:
        lines.append("Needs, besides `make demo`: " + "; ".join(recipe.needs_in_words) + ".")
    if not execute.RUN or recipe.missing:
        why = (
            f"needs {'; '.join(recipe.missing)}" if recipe.missing else "was left out of this build"
        )
        lines.append(
            '!!! warning "Not run here"\n    '
            f"Running this recipe {why}, so its code is shown without what it prints."
        )
    else:
        lines.append(MEASURED)
    lines += [
        cell.text if cell.kind == "markdown" else block_of(recipe, cell.text, cell.line)
        for cell in recipe.cells
    ]
    return "\n\n".join(lines) + "\n"


def block_of(recipe: Recipe, code: str, line: int) -> str:
    run = f' exec="1" source="above" session="{recipe.name}" id="{recipe.path}:{line}"'
    return f"```python{'' if recipe.missing else run}\n{code}\n```\n"


def cards_of(group: str) -> str:
    cards = [
        f"-   {PICTURE.format(recipe.name)}\n\n"
        f"    **[{recipe.title}]({recipe.name}.md)**\n\n"
        f"    {recipe.summary}\n\n"
        f"    {tags_of(recipe)}\n\n"
        f'    <span class="recipe-cost">{cost_of(recipe)}</span><br>'
        f"`python {recipe.path.relative_to(REPOSITORY)}`\n"
        for recipe in by_uri.values()
        if recipe.group == group
    ]
    if not cards:
        return ""
    body = "\n".join(cards)
    return f'## {GROUPS[group]}\n\n<div class="grid cards" markdown>\n\n{body}\n</div>\n'


def on_post_build(config: Any, **_: Any) -> None:
    """Put a picture on every card: the recipe's first figure, or what it printed, or its code.

    The cards are written before the recipes have run.
    """
    path = Path(config.site_dir) / "recipes" / "index.html"
    text = path.read_text()
    for recipe in by_uri.values():
        empty = PICTURE.format(recipe.name)
        text = text.replace(empty, empty.replace("></span>", f">{picture_of(recipe)}</span>"))
    path.write_text(text)
    execute.on_post_build()


def picture_of(recipe: Recipe) -> str:
    if figure := execute.figures.get(recipe.name):
        return figure
    code = next(cell.text for cell in recipe.cells if cell.kind == "code")
    lines = (execute.printed.get(recipe.name) or code).strip().splitlines()
    return f"<code>{escaping.escape(chr(10).join(lines[:9]))}</code>"
