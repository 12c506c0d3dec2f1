"""How objects show themselves: to a notebook as small HTML without scripts, or as a picture."""

import reprlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from dspa_nn.errors import DSPAError
from dspa_nn.imports import untyped

# Joiners are part of emoji and of several scripts; line ends and tabs are text.
_KEPT = {"\n", "\t", "\u200c", "\u200d"}
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_TABLE = "border-collapse:collapse;margin:.4em 0"
_CELL = "text-align:left;padding:.15em .8em .15em 0;vertical-align:top"


def visible(text: str) -> str:
    r"""Text in which what a reader could not see is spelled out: controls, direction marks, halves.

    >>> visible("a\u202eb\ud800\x1b[1m")
    'a⟨U+202E⟩b⟨U+D800⟩⟨U+001B⟩[1m'

    A mark that turns the direction of writing would change how all that follows reads, and half of
    a surrogate pair cannot be written to a file.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if unicodedata.category(character) in _UNSEEN and character not in _KEPT
        else character
        for character in text
    )


def as_html(value: object) -> str:
    """Any value as text in HTML, whatever it holds.

    >>> as_html("<b>{{ 1 }}</b>")
    '&lt;b&gt;{{ 1 }}&lt;/b&gt;'
    """
    return escape(visible(str(value)))


def facts_html(facts: Mapping[str, object]) -> str:
    """Names and values as a table of two columns.

    >>> "<th" in facts_html({"alpha": 0.2})
    True
    """
    rows = "".join(
        f'<tr><th scope="row" style="{_CELL}">{as_html(name)}</th>'
        f'<td style="{_CELL}">{as_html(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>'


def table_html(names: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Rows under named columns; an empty string where there are none.

    >>> table_html(["latent"], [])
    ''
    """
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{as_html(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    if not body:
        return ""
    head = "".join(f'<th scope="col" style="{_CELL}">{as_html(name)}</th>' for name in names)
    top = f'<caption style="text-align:left">{as_html(caption)}</caption>' if caption else ""
    inner = f"{top}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<table style="{_TABLE}">{inner}</table>'


def shown(title: str, *parts: str) -> str:
    """A block for a notebook: a bold title, and parts that are HTML already.

    >>> shown("Plan <1>", "<p>nothing</p>")
    '<div><p><b>Plan &lt;1&gt;</b></p><p>nothing</p></div>'
    """
    return f"<div><p><b>{as_html(title)}</b></p>{''.join(parts)}</div>"


def shaded_html(tokens: Iterable[tuple[str, float, str]]) -> str:
    """Tokens as running text, each shaded and underlined by how strongly it is marked.

    >>> shaded_html([("sun", 0.0, ""), (" moon", 1.0, "2 edits")]).count("<span")
    1

    tokens: text, mark from 0 to 1, and what is said of it.
    """
    parts: list[str] = []
    for text, mark, said in tokens:
        if mark <= 0:
            parts.append(as_html(text))
            continue
        style = (
            f"background:rgba(245,158,11,{0.12 + 0.4 * min(mark, 1):.2f});"
            f"border-bottom:{1 + round(2 * min(mark, 1))}px solid currentColor"
        )
        parts.append(f'<span style="{style}" title="{as_html(said)}">{as_html(text)}</span>')
    return f'<p style="white-space:pre-wrap;max-width:50em">{"".join(parts)}</p>'


def check_axes(axes: Any, wanted: int) -> None:
    """Refuse what is not as many of matplotlib's axes as a picture is drawn on.

    >>> check_axes(pyplot().subplots(2)[1], 2)
    >>> check_axes("left", 1)
    Traceback (most recent call last):
    dspa_nn.errors.DSPAError: axes is 'left', of type str; expected one of matplotlib's Axes, as ...

    wanted: 1, or 2 in a list or an array. None, for which new ones are made, passes.
    """
    if axes is None:
        return
    many = type(axes) in (list, tuple, np.ndarray)
    each: list[Any] = [axes] if wanted == 1 else [*axes] if many else []
    if len(each) != wanted or not all(callable(getattr(one, "errorbar", None)) for one in each):
        expected = "one of matplotlib's Axes" if wanted == 1 else f"{wanted} of matplotlib's Axes"
        makes = "" if wanted == 1 else str(wanted)
        raise DSPAError(
            f"axes is {reprlib.repr(axes)}, of type {type(axes).__name__}; expected {expected}, as "
            f"plt.subplots({makes})[1] makes them"
        )


def pyplot() -> Any:
    """Matplotlib's pyplot, loaded when the first picture is drawn.

    >>> pyplot().__name__
    'matplotlib.pyplot'

    Raises:
        DSPAError: it is not installed.
    """
    try:
        return untyped("matplotlib.pyplot")
    except ImportError:
        raise DSPAError(
            "matplotlib is not installed, and plot draws with it; pip install 'dspa-nn[demo]' "
            "brings it"
        ) from None
