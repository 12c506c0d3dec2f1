"""Chat templates: which one a tokenizer's conversations are written with, and what it writes."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from dspa_nn.errors import TripleError
from dspa_nn.imports import untyped
from dspa_nn.prompts.dates import dated
from dspa_nn.triples import Message

# For models whose tokenizer has no chat template. It ends in a newline, so that a response needs
# no leading space, and it is tokenised with the default special tokens, as any plain text is.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}:\n{{ message['content'] }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)


def chat_template(tokenizer: Any) -> str:
    """Return the template that message lists are rendered with: the tokenizer's, or the plain one.

    >>> chat_template(tokenizer) == PLAIN_TEMPLATE      # True where the model has no template
    False

    Raises:
        TripleError: several templates and none of them named "default", or a tokenizer that
            writes chats without a template.
    """
    _check_chats(tokenizer)
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
            chat_template=dated(template),
            tokenize=False,
            add_generation_prompt=ending.header,
            **options,
        )
    except (TemplateError, TypeError) as error:
        raise TripleError(
            f"the chat template refused messages of the roles {roles_of(messages)} "
            f"({str(error).strip().rstrip('.')}): give roles and an order that this model knows"
        ) from None


def unused_word(*texts: str) -> str:
    """A word that stands in none of the texts, to be looked for in what a template writes.

    >>> unused_word("{{ messages[0]['content'] }}")
    'dspa'
    """
    word = "dspa"
    while any(word in text for text in texts):
        word += "x"
    return word


def roles_of(messages: tuple[Message, ...]) -> str:
    """The roles of messages, for a sentence.

    >>> roles_of((Message("system", "Be brief."), Message("user", "Hello")))
    'system, user'
    """
    return ", ".join(message["role"] for message in messages)


def _check_chats(tokenizer: Any) -> None:
    """Refuse to render messages for a tokenizer that writes chats by code and has no template.

    Mistral's own class does. A plain template would be another text than the model was trained on.

    Raises:
        TripleError: naming the class.
    """
    if getattr(tokenizer, "chat_template", None):
        return
    base: Any = untyped("transformers").PreTrainedTokenizerBase
    writes: Callable[..., Any] | None = getattr(
        type(cast(object, tokenizer)), "apply_chat_template", None
    )
    if writes in (None, base.apply_chat_template):
        return
    raise TripleError(
        f"messages came for a {type(tokenizer).__name__}, which writes chats by code, so that "
        "content cannot be told from markup in them: load the model's tokenizer.json with "
        "transformers.PreTrainedTokenizerFast.from_pretrained(...) and its chat template, or give "
        "the prompt as a string"
    )
