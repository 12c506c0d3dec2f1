"""Parts of pages that are made from the code: tables, error sentences, the change log, llms.txt.

A page holds a marker, such as `<!-- presets -->`, where a part goes.
"""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

import tables
from sentences import errors_page
from summaries import summary

PARTS = {
    "<!-- presets -->": tables.presets,
    "<!-- preset needs -->": tables.preset_needs,
    "<!-- sae types -->": tables.sae_types,
    "<!-- what runs where -->": tables.what_runs_where,
    "<!-- error sentences -->": errors_page,
}
CHANGES = "changelog.md"

summaries: dict[str, tuple[str, str, str]] = {}


def on_files(files: Files, config: Any) -> Files:
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    files.append(File.generated(config, CHANGES, content=changes))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    for marker, made in PARTS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, made())
    if (found := summary(markdown)) is not None:
        summaries[page.file.src_uri] = (found[0], page.url, found[1])
    return markdown


def on_nav(nav: Any, **_: Any) -> Any:
    summaries.clear()
    global sections
    sections = [(item.title, pages_of(item)) for item in nav.items]
    return nav


def pages_of(item: Any) -> list[Any]:
    if item.children:
        return [page for child in item.children for page in pages_of(child)]
    return [item] if hasattr(item, "file") else []


sections: list[tuple[str, list[Any]]] = []


def on_post_build(config: Any, **_: Any) -> None:
    """Write llms.txt: what each page is about, for readers who are programs."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for title, pages in sections:
        lines += [f"## {title}", ""]
        for page in pages:
            known = summaries.get(page.file.src_uri)
            if known is not None:
                told = f": {known[2]}" if known[2] else ""
                lines.append(f"- [{known[0]}]({known[1] or './'}){told}")
        lines.append("")
    (Path(config.site_dir) / "llms.txt").write_text("\n".join(lines))
