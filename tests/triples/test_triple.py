"""What a preference triple takes, keeps and refuses."""

import copy
import json
import pickle
from typing import Any

import pytest

from dspa_nn.errors import TripleError
from dspa_nn.triples import Message, PreferenceTriple, as_messages

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]


def test_a_list_of_messages_is_kept_as_an_immutable_tuple() -> None:
    messages = copy.deepcopy(CHAT)
    triple = PreferenceTriple(messages, "yes", "no")
    messages[0]["content"] = "Be rude."
    assert triple.prompt == tuple(CHAT)
    assert triple.is_chat
    assert hash(triple) == hash(PreferenceTriple(CHAT, "yes", "no"))
    assert triple != PreferenceTriple(CHAT, "yes", "maybe")
    assert json.loads(json.dumps(triple.prompt)) == CHAT


def test_a_string_prompt_may_be_empty() -> None:
    triple = PreferenceTriple("", "yes", "no")
    assert triple.prompt == ""
    assert not triple.is_chat


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_equal(again: Any) -> None:
    triple = PreferenceTriple(CHAT, "yes", "no")
    assert again(triple) == triple


def test_a_message_cannot_be_changed() -> None:
    message: Any = Message("user", "Hi")
    for change in (
        lambda: message.update(role="x"),
        lambda: message.__setitem__("role", "x"),
        lambda: message.pop("role"),
        lambda: message.__ior__({"role": "x"}),
    ):
        with pytest.raises(TypeError, match="a Message cannot be changed: make a new one"):
            change()
    assert message == {"role": "user", "content": "Hi"}


def test_other_keys_of_a_message_are_left_out() -> None:
    assert as_messages([{"role": "user", "content": "Hi", "weight": 1}]) == (Message("user", "Hi"),)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            ("Hi", "", "no"),
            "the chosen response is empty, where some text was expected: leave this triple out",
        ),
        (
            ("Hi", "yes", " \n"),
            "the rejected response is empty, where some text was expected: leave this triple out",
        ),
        (
            ("Hi", 3, "no"),
            "the chosen response is of type int, where a string was expected: convert it first",
        ),
        (
            (3, "yes", "no"),
            "a prompt of type int came, where a string or a list of chat messages was expected: "
            "give one of the two",
        ),
        (
            ([], "yes", "no"),
            "the prompt is an empty list of messages, where at least one was expected: "
            "give a message, or leave this triple out",
        ),
        (
            (["Hi"], "yes", "no"),
            "message 0 of the prompt is of type str, where a dict with 'role' and 'content' was "
            "expected: write it as one",
        ),
        (
            ([CHAT[0], {"role": "user", "text": "Hi"}], "yes", "no"),
            "'content' of message 1 of the prompt is missing (its keys: 'role', 'text'), where a "
            "string was expected: only text messages can be read",
        ),
        (
            ([{"role": "user", "content": [{"type": "image"}]}], "yes", "no"),
            "'content' of message 0 of the prompt is of type list (its keys: 'role', 'content'), "
            "where a string was expected: only text messages can be read",
        ),
        (
            ("Hi", "yes \ud83d", "no"),
            "the chosen response holds half of a surrogate pair at character 4, which is no valid "
            "Unicode: mend the text, or leave it out",
        ),
        (
            ([{"role": "user", "content": "\udc00"}], "yes", "no"),
            "'content' of message 0 of the prompt holds half of a surrogate pair at character 0, "
            "which is no valid Unicode: mend the text, or leave it out",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_triple_is_refused_in_a_sentence(fields: Any, message: str) -> None:
    with pytest.raises(TripleError) as caught:
        PreferenceTriple(*fields)
    assert str(caught.value) == message


def test_the_prompt_as_messages_whichever_way_it_came() -> None:
    plain = PreferenceTriple("Is it raining?", "Yes.", "no")
    assert plain.messages == ({"role": "user", "content": "Is it raining?"},)
    chat = PreferenceTriple([{"role": "user", "content": "Is it raining?"}], "Yes.", "no")
    assert chat.messages == chat.prompt
