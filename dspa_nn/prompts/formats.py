r"""Conversation formats by name, for models whose tokenizer has no template, or has another.

    template="human-assistant"      # what the paper's runs were written in (docs/method.md 6)
    template="plain"                # what a tokenizer without a template is given
    template="own"                  # the tokenizer's

They hold no tokens of their own, so that what they write is tokenised as any plain text is, with
the tokenizer's default special tokens.
"""

import copy
from typing import Any

from dspa_nn.checks import check_choice
from dspa_nn.errors import TripleError
from dspa_nn.prompts.templates import PLAIN_TEMPLATE

# The paper's conversations, as the first author's fork of FastChat writes them: no space after the
# last colon, and what the assistant said before ends in the tokenizer's end-of-text token.
HUMAN_ASSISTANT = (
    "{% for message in messages %}"
    "{{ 'Human' if message['role'] == 'user' else message['role'] | capitalize }}: "
    "{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
OWN = "own"
FORMATS = {"human-assistant": HUMAN_ASSISTANT, "plain": PLAIN_TEMPLATE}


def written_as_text(template: str) -> bool:
    """Whether a template is one of these, whose texts get the default special tokens.

    >>> written_as_text(PLAIN_TEMPLATE), written_as_text("{{ messages[0].content }}")
    (True, False)
    """
    return template in FORMATS.values()


def in_format(tokenizer: Any, name: str | None) -> Any:
    r"""A tokenizer that writes conversations in a format; the one that came is left as it was.

    >>> twin = in_format(tokenizer, "human-assistant")
    >>> asked = [{"role": "user", "content": "Hello"}]
    >>> twin.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    'Human: Hello\n\nAssistant:'
    >>> in_format(tokenizer, "own") is tokenizer
    True

    name: a key of `FORMATS`; "own" or None for the tokenizer's own template.

    Raises:
        TripleError: no such format.
    """
    if name is None or name == OWN:
        return tokenizer
    check_choice("template", name, (*FORMATS, OWN), TripleError)
    twin = copy.copy(tokenizer)
    twin.chat_template = FORMATS[name]
    return twin
