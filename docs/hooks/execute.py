"""Code blocks that say `exec="1"` run while the site is built, each session in its own process.

markdown-exec finds the blocks and renders them; running them is done here, since it would run them
inside MkDocs: without a time limit, without the source that nnsight reads, and with the models of
every page in memory at once. A block that fails is a warning, which fails a strict build.
"""

import os
from typing import Any

from markdown_exec import MarkdownConverter, add_source, code_block, formatters, get_logger
from session import Session

RUN = os.environ.get("DOCS_RUN") != "0"
log = get_logger("execute")


sessions: dict[str, Session] = {}
# The first figure and the first text of each session: the cards of the gallery show them.
figures: dict[str, str] = {}
printed: dict[str, str] = {}


def format_python(*, code: str, md: Any, session: str, id: str, source: str, **options: Any) -> str:
    """Run a block and render it. `id` may say where it stands in a file: `PATH:LINE`."""
    current = sessions.setdefault(session, Session()) if session else Session()
    converter = MarkdownConverter(md, update_toc=False)
    if current.failed or not RUN:
        return converter.convert(code_block("python", code))
    file, _, line = id.rpartition(":")
    result = current.run(code, file or None, int(line) if file else 1)
    if not session:
        current.close()
    if result["error"] is not None:
        log.warning(f"a block of {session or 'a page'} failed:\n{code}\n{result['error']}")
        return converter.convert(code_block("text", result["error"]))
    if result["figures"]:
        figures.setdefault(session, result["figures"][0])
    if result["text"].strip():
        printed.setdefault(session, result["text"])
    stash = {
        f'<div class="figure-{number}"></div>': f"<figure>{svg}</figure>"
        for number, svg in enumerate(result["figures"])
    }
    text = result["text"].rstrip()
    output = "\n\n".join([*([code_block("text", text)] if text else []), *stash])
    if source:
        output = add_source(
            source=code, location=source, output=output, language="python", tabs=options["tabs"]
        )
    return converter.convert(output, stash=stash)


formatters["python"] = format_python


def close_all() -> None:
    while sessions:
        sessions.popitem()[1].close()


def on_post_build(**_: Any) -> None:
    close_all()


def on_build_error(**_: Any) -> None:
    close_all()
