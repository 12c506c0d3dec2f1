"""Messages as the template writes them: without the reasoning that it leaves out, for one."""

from typing import Any

from dspa_nn.prompts.templates import chat_template, render_text, unused_word
from dspa_nn.triples import Message


def as_written(tokenizer: Any, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Messages with each text as the template writes it in this place, where that can be told.

    >>> messages = (Message("user", "Hello"),)
    >>> as_written(tokenizer, messages) == messages
    True

    Reasoning in earlier answers is what templates leave out. Each text in turn is put in place of
    an unused word, all others as they are; what then stands in its place is the text as written.
    Messages are returned as they came where theirs and the texts so found are not rendered alike.

    Raises:
        TripleError: the template refuses the messages.
    """
    template = chat_template(tokenizer)
    text = render_text(tokenizer, template, messages)
    word = unused_word(template, text, *(message["role"] for message in messages))
    written: list[Message] = []
    for number, message in enumerate(messages):
        probe = Message(message["role"], word)
        probes = (*messages[:number], probe, *messages[number + 1 :])
        before, _, after = render_text(tokenizer, template, probes).partition(word)
        room = len(text) - len(before) - len(after)
        if word in after or room < 0 or not (text.startswith(before) and text.endswith(after)):
            return messages
        written.append(Message(message["role"], text[len(before) : len(before) + room]))
    same = render_text(tokenizer, template, tuple(written)) == text
    return tuple(written) if same else messages
