"""Diagrams in Mermaid: the library comes with this site, and only pages with a diagram load it.

Material for MkDocs would fetch it from elsewhere when a page is opened.
"""

from typing import Any

from mkdocs.utils import get_relative_url

LIBRARY = "assets/mermaid.tiny.js"


def on_post_page(output: str, page: Any, **_: Any) -> str:
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(LIBRARY, page.url)}"></script>\n'
    # Just before Material's own, which looks for the library when it starts.
    material = output.rindex("<script", 0, output.index("assets/javascripts/bundle"))
    return output[:material] + script + output[material:]
