"""Chat templates: what they write, and where in it each message's own text lies.

The template is rendered a second time with a sentinel in place of each content. What it writes
between the sentinels are the literal pieces; pieces and contents, laid end to end, must give the
real rendering to the character, and then lengths alone say where each content is.
"""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from dspa_nn.errors import TripleError
from dspa_nn.prompts.markup import check_chats
from dspa_nn.triples import Message

# For models whose tokenizer has no chat template. It ends in a newline, so that a response needs
# no leading space, and it is tokenised with the default special tokens, as any plain text is.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}:\n{{ message['content'] }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
# Outer whitespace around a sentinel, to see what the template strips: `strip()` takes it all,
# `strip("\n")` all but the em space. So many newlines are not taken for the template's own.
_NEWLINES, _SPACE = "\n" * 7, "\u2003"


# The function that writes today's date, which transformers offers to templates.
_NOW = "strftime_now"
# The day that templates write, in ISO form; None is today.
_date: ContextVar[str | None] = ContextVar("date", default=None)


def asks_for_date(template: str) -> bool:
    """Whether a template writes the date, as that of Llama 3.2 does.

    >>> asks_for_date(PLAIN_TEMPLATE)
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


def _dated(template: str) -> str:
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


def chat_template(tokenizer: Any) -> str:
    """Return the template that message lists are rendered with: the tokenizer's, or the plain one.

    >>> chat_template(tokenizer) == PLAIN_TEMPLATE      # True where the model has no template
    False

    Raises:
        TripleError: several templates and none of them named "default", or a tokenizer that
            writes chats without a template.
    """
    check_chats(tokenizer)
    if not getattr(tokenizer, "chat_template", None):
        return PLAIN_TEMPLATE
    try:
        return tokenizer.get_chat_template()
    except ValueError:
        raise TripleError(
            f"the tokenizer has the chat templates {sorted(tokenizer.chat_template)}, where one "
            "named 'default' was expected: set tokenizer.chat_template to the one to use"
        ) from None


class Ending(NamedTuple):
    """How a rendering ends, and which switches its template was given.

    >>> Ending().header
    True

    Attributes:
        header: with the generation header, after which the answer begins.
        continued: with the text of the last message, which the answer then continues.
        thinking: what `enable_thinking` is, where the template knows it; None leaves it out.
    """

    header: bool = True
    continued: bool = False
    thinking: bool | None = False


ANSWERED = Ending()  # what `render` writes of a prompt
CONTINUED = Ending(header=False, continued=True)


def render_text(
    tokenizer: Any, template: str, messages: tuple[Message, ...], ending: Ending = ANSWERED
) -> str:
    """Return what the template writes of the messages, with the generation header if asked for.

    Raises:
        TripleError: the template refuses these messages.
    """
    from jinja2 import TemplateError

    # Named only where the template asks for it: thinking would come before the response.
    named = ending.thinking is not None and "enable_thinking" in template
    options = {"enable_thinking": ending.thinking} if named else {}
    try:
        return tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=_dated(template),
            tokenize=False,
            add_generation_prompt=ending.header,
            **options,
        )
    except (TemplateError, TypeError) as error:
        raise TripleError(
            f"the chat template refused messages of the roles {_roles(messages)} "
            f"({str(error).strip().rstrip('.')}): give roles and an order that this model knows"
        ) from None


def content_spans(
    tokenizer: Any, template: str, messages: tuple[Message, ...], ending: Ending = ANSWERED
) -> tuple[str, list[tuple[int, int]]]:
    r"""Return the rendered text and the (first, last + 1) characters of each non-empty content.

    >>> messages = (Message("user", " Hello "),)
    >>> text, spans = content_spans(tokenizer, PLAIN_TEMPLATE, messages)
    >>> text, [text[first:last] for first, last in spans]
    ('User:\n Hello \n\nAssistant:\n', [' Hello '])

    Contents may hold anything, the template's own markup and the sentinels included: nothing is
    searched for in the real rendering. They come in the order in which the template writes them,
    twice where it writes them twice.

    Raises:
        TripleError: the template refuses the messages, leaves one out, or rewrites its text.
    """
    text = render_text(tokenizer, template, messages, ending)
    sentinel = unused_word(template, *(message["role"] for message in messages))
    # An empty content stays so: templates write other markup for it, and it has no characters.
    probes = tuple(
        Message(m["role"], f"{_NEWLINES}{_SPACE}{sentinel}{number}z{_SPACE}{_NEWLINES}")
        if m["content"]
        else m
        for number, m in enumerate(messages)
    )
    skeleton = render_text(tokenizer, template, probes, ending)
    matches = re.finditer(
        f"(?P<left>(?:{_NEWLINES})?{_SPACE})?{sentinel}(?P<number>[0-9]+)z"
        f"(?P<right>{_SPACE}(?:{_NEWLINES})?)?",
        skeleton,
    )
    built, done = "", 0
    spans: list[tuple[int, int]] = []
    seen: set[int] = set()
    for match in matches:
        number = int(match["number"])
        content = messages[number]["content"]
        if not match["left"]:
            content = content.lstrip()
        elif match["left"] == _SPACE:
            content = content.lstrip("\n")
        if not match["right"]:
            content = content.rstrip()
        elif match["right"] == _SPACE:
            content = content.rstrip("\n")
        built += skeleton[done : match.start()]
        spans.append((len(built), len(built) + len(content)))
        built += content
        seen.add(number)
        done = match.end()
    for number, message in enumerate(messages):
        if message["content"] and number not in seen:
            raise TripleError(
                f"the chat template leaves out message {number} (role {message['role']!r}) of "
                f"the roles {_roles(messages)}, where each was expected in the text: "
                "leave that message out yourself"
            )
    if built + skeleton[done:] != text:
        raise TripleError(
            f"the chat template rewrites the text of messages of the roles {_roles(messages)}, "
            "where each was expected as it stands or trimmed: give them as the template writes "
            "them (reasoning left out of earlier turns, for one)"
        )
    if ending.continued:
        text = text[: spans[-1][1]]
    return text, [(first, last) for first, last in spans if last > first]


def unused_word(*texts: str) -> str:
    """A word that stands in none of the texts, to be looked for in what a template writes.

    >>> unused_word("{{ messages[0]['content'] }}")
    'dspa'
    """
    word = "dspa"
    while any(word in text for text in texts):
        word += "x"
    return word


def _roles(messages: tuple[Message, ...]) -> str:
    return ", ".join(message["role"] for message in messages)


def overlaps(
    tokens: list[str], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> Iterator[bool]:
    """Yield for each token whether it shares a character with one of the spans."""
    covered = 0
    for token, (start, end) in zip(tokens, offsets, strict=True):
        # Llama 3 and GPT-2 leave a token's leading spaces out of its offsets: give them back.
        spaces = len(token) - len(token.lstrip("Ġ"))
        start = max(min(start, covered), start - spaces)
        covered = max(covered, end)
        yield any(start < last and end > first for first, last in spans)


def piecewise(
    tokenizer: Any, text: str, spans: list[tuple[int, int]], whole: list[int]
) -> list[bool]:
    """Tell content from markup without offsets: exact, where no token runs across a border."""
    borders = [0, *(border for span in spans for border in span), len(text)]
    ids: list[int] = []
    content: list[bool] = []
    for number, (first, last) in enumerate(pairwise(borders)):
        piece = tokenizer(text[first:last], add_special_tokens=False).input_ids
        ids += piece
        content += [number % 2 == 1] * len(piece)
    if ids != whole:
        raise TripleError(
            "the tokenizer is a slow one, without offsets, and its tokens run across the border "
            "of a message's text, where content must be told from markup: load the fast "
            "tokenizer of this model, or give the prompt as a string"
        )
    return content
