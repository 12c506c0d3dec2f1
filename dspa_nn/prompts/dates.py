"""The day that chat templates write, where they write one: today, or the day of a run."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

# The function that writes today's date, which transformers offers to templates.
_NOW = "strftime_now"
# The day that templates write, in ISO form; None is today.
_date: ContextVar[str | None] = ContextVar("date", default=None)


def asks_for_date(template: str) -> bool:
    """Whether a template writes the date, as that of Llama 3.2 does.

    >>> asks_for_date("{{ messages[0].content }}")
    False
    """
    return _NOW in template


@contextmanager
def rendered_on(date: str | None) -> Generator[None]:
    """Let templates write this day, in ISO form, instead of today.

    >>> with rendered_on("2026-11-25"):
    ...     prompt = dspa.render([{"role": "user", "content": "Hello"}])
    """
    before = _date.set(date)
    try:
        yield
    finally:
        _date.reset(before)


def rendering_date() -> str | None:
    """The day that `rendered_on` has set, in ISO form; None is today.

    >>> with rendered_on("2026-11-25"):
    ...     rendering_date()
    '2026-11-25'
    """
    return _date.get()


def dated(template: str) -> str:
    """A template in which the function of today's date writes the day of `rendered_on`.

    However the template calls it: a macro of that name stands before the template.
    """
    day = _date.get()
    if day is None or not asks_for_date(template):
        return template
    when = datetime.fromisoformat(day)
    parts = [f"%{flag}{letter}" for flag in ("-", "") for letter in "aAbBcdHIjmMpSUwWxXyY"]
    written = "".join(f" | replace({part!r}, {when.strftime(part)!r})" for part in parts)
    # The line break is the tag's own: transformers trims it.
    return f"{{% macro {_NOW}(format) %}}{{{{ format{written} }}}}{{% endmacro %}}\n{template}"
