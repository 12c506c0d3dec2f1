"""What a page is about, in its title and first sentence: for llms.txt."""

import re

_FENCED = re.compile(r"^```.*?^```[^\n]*$", re.MULTILINE | re.DOTALL)
# Headings, tables, HTML, notes and pictures, lists, references to the code.
_NO_PROSE = re.compile(r"[#|<!:-]|\d+\. | {4}")


def summary(markdown: str) -> tuple[str, str] | None:
    """Title and first sentence of a page; the sentence is empty where there is no prose.

    >>> summary("# Files\\n\\n    code\\n\\nA *map* is saved by `to_file`. It is whole.")
    ('Files', 'A map is saved by to_file.')
    """
    text = _FENCED.sub("", markdown)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    if title is None:
        return None
    for block in re.split(r"\n\s*\n", text[title.end() :]):
        if block.strip() and not _NO_PROSE.match(block.lstrip("\n")):
            return title[1], _first_sentence(block)
    return title[1], ""


def _first_sentence(block: str) -> str:
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(block.split()))
    plain = re.sub(r"`|\*+", "", plain)
    return re.split(r"(?<=\.)\s", plain)[0].removesuffix(":")
