"""Docstrings of the house, as the reference shows them: what is typed at a prompt `>>>` is code.

Griffe knows the section `Examples:` alone: it takes any other heading for that of a note, and a
bare `>>>` for the quotes of quotes that it is in Markdown.
"""

import re
from textwrap import dedent
from typing import Any

import griffe

PARAGRAPH = r"[ \t]*>>> .*(?:\n[ \t]*\S.*)*"
# A paragraph that opens with a prompt, at the margin or below a line that ends with a colon.
BARE = re.compile(rf"^(?=>>>)(?P<code>{PARAGRAPH})", re.MULTILINE)
BELOW = re.compile(rf"^(?P<lead>(?!Examples?:)\S.*:)\n(?P<code>{PARAGRAPH})", re.MULTILINE)


def readable(text: str) -> str:
    """Make every example of a docstring one that Griffe reads as code.

    >>> print(readable("Add.\\n\\nExample:\\n    >>> 1 + 1"))
    Add.
    <BLANKLINE>
    Examples:
        >>> 1 + 1
    """
    text = BARE.sub(lambda match: fenced(match["code"]), text)
    text = BELOW.sub(lambda match: f"{match['lead']}\n\n{fenced(match['code'])}", text)
    return re.sub(r"^Example:[ \t]*$", "Examples:", text, flags=re.MULTILINE)


def fenced(code: str) -> str:
    return f"```pycon\n{dedent(code)}\n```"


class Docstrings(griffe.Extension):
    """Read every example as code, whatever stands above it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
