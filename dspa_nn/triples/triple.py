"""Preference triples: a prompt, the response that was preferred, the one that was not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from dspa_nn.errors import TripleError

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]


class Message(dict[str, str]):
    """One chat message: a dict with `role` and `content` that can be hashed and not be changed.

    >>> Message("user", "What is a comma for?")["content"]
    'What is a comma for?'

    It stays a dict so that chat templates, JSON and `datasets` take it as it is.
    """

    def __init__(self, role: str, content: str) -> None:
        super().__init__(role=role, content=content)

    # A dict says that it has no hash, since it can be changed; this one cannot.
    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash((self["role"], self["content"]))

    def __reduce__(self) -> tuple[type["Message"], tuple[str, str]]:
        return Message, (self["role"], self["content"])

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("a Message cannot be changed: make a new one")

    if not TYPE_CHECKING:  # to a type checker they keep the signatures that dict gives them
        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse


@dataclass(frozen=True)
class PreferenceTriple:
    """A prompt with a chosen and a rejected response.

    >>> PreferenceTriple("Is it raining?", "Yes, take a coat.", "no idea").is_chat
    False
    >>> PreferenceTriple([{"role": "user", "content": "Is it raining?"}], "Yes.", "no").prompt
    ({'role': 'user', 'content': 'Is it raining?'},)

    A *string* prompt is shown to the model as it stands; a *list of chat messages* goes through
    the tokenizer's chat template (docs/method.md 5). Messages are kept as a tuple of immutable
    `Message`s, so that a triple can be hashed and pickled; their keys other than `role` and
    `content` are left out.

    Raises:
        TripleError: a prompt or response of another type, an empty list of messages, an empty
            (or blank) response, or text that is no valid Unicode.
    """

    prompt: Prompt
    chosen: str
    rejected: str

    def __post_init__(self) -> None:
        if isinstance(self.prompt, str):
            check_text(self.prompt, "the prompt")
        else:
            object.__setattr__(self, "prompt", as_messages(self.prompt))
        for name in ("chosen", "rejected"):
            text = getattr(self, name)
            check_text(text, f"the {name} response")
            if not text.strip():
                raise TripleError(
                    f"the {name} response is empty, where some text was expected: "
                    "leave this triple out"
                )

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is a list of messages, to be rendered with the chat template."""
        return not isinstance(self.prompt, str)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as chat messages; a string is one message of the user.

        >>> PreferenceTriple("Is it raining?", "Yes, take a coat.", "no idea").messages
        ({'role': 'user', 'content': 'Is it raining?'},)
        """
        if isinstance(self.prompt, str):
            return (Message("user", self.prompt),)
        return as_messages(self.prompt)


def as_messages(value: object, what: str = "the prompt") -> tuple[Message, ...]:
    """Return chat messages as an immutable tuple, or say what is wrong with them.

    >>> as_messages([{"role": "user", "content": "Hello"}])
    ({'role': 'user', 'content': 'Hello'},)

    what: of what they are, for the sentence: "the prompt", "'chosen'".

    Raises:
        TripleError: not a list of dicts with a string `role` and a string `content`.
    """
    if not isinstance(value, (list, tuple)):
        one = what.replace("the ", "a ")
        raise TripleError(
            f"{one} of type {type(value).__name__} came, where a string or a "
            "list of chat messages was expected: give one of the two"
        )
    if not value:
        raise TripleError(
            f"{what} is an empty list of messages, where at least one was expected: "
            "give a message, or leave this triple out"
        )
    messages: list[Message] = []
    for number, entry in enumerate(cast(Sequence[object], value)):
        if not isinstance(entry, Mapping):
            raise TripleError(
                f"message {number} of {what} is of type {type(entry).__name__}, where a dict "
                "with 'role' and 'content' was expected: write it as one"
            )
        item = cast(Mapping[Any, Any], entry)
        for key in ("role", "content"):
            if not isinstance(item.get(key), str):
                came = f"is of type {type(item[key]).__name__}" if key in item else "is missing"
                raise TripleError(
                    f"{key!r} of message {number} of {what} {came} (its keys: "
                    f"{_names(item)}), where a string was expected: only text messages can be read"
                )
            check_text(item[key], f"{key!r} of message {number} of {what}")
        messages.append(Message(item["role"], item["content"]))
    return tuple(messages)


def check_text(value: object, what: str) -> None:
    """Refuse what is no string, or one that no tokenizer takes.

    >>> check_text("Hello", "the prompt")

    Raises:
        TripleError: naming `what`.
    """
    if not isinstance(value, str):
        raise TripleError(
            f"{what} is of type {type(value).__name__}, where a string was expected: "
            "convert it first"
        )
    # Half of a surrogate pair gets through JSON, and no tokenizer takes it.
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TripleError(
            f"{what} holds half of a surrogate pair at character {error.start}, which is no valid "
            "Unicode: mend the text, or leave it out"
        ) from None


def _names(keys: Mapping[Any, Any]) -> str:
    return ", ".join(repr(key) for key in keys) or "none"
