"""Docstrings of the house, as the reference shows them: what is typed at a prompt `>>>` is code.

Griffe knows the section `Examples:` alone: it takes `Example:` for a note, and a bare `>>>` for the
quotes of quotes that it is in Markdown.
"""

import re
from typing import Any

import griffe

HEADING = re.compile(r"^([ \t]*)Example:[ \t]*$", re.MULTILINE)
# A paragraph that opens with a prompt at the docstring's margin, so in no section.
BARE = re.compile(r"^>>> .*(?:\n[ \t]*\S.*)*", re.MULTILINE)


def readable(text: str) -> str:
    """Make every example of a docstring one that Griffe reads as code.

    >>> print(readable("Add.\\n\\nExample:\\n    >>> 1 + 1"))
    Add.
    <BLANKLINE>
    Examples:
        >>> 1 + 1
    """
    return BARE.sub(r"```pycon\n\g<0>\n```", HEADING.sub(r"\1Examples:", text))


class Docstrings(griffe.Extension):
    """Read `Example:`, and bare prompts, as examples."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
