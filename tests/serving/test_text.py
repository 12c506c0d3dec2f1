"""The text of an answer as it comes: whole characters, up to a stop string."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.serving import TextStream
from tests import tiny
from tests.examples import examples

TOKENIZER = tiny.tokenizer("add")


@pytest.fixture(scope="module")
def bytewise() -> Any:
    """A tokenizer whose tokens are single bytes, so that most characters take several."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def pieces(tokenizer: Any, text: str, stops: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(tokenizer, stops)
    found: list[str] = []
    for token in tokenizer(text, add_special_tokens=False).input_ids:
        found.append(stream.add(token))
        if stream.stopped:
            return found, True
    return [*found, stream.end()], stream.stopped


def test_characters_of_several_tokens_come_whole(bytewise: Any) -> None:
    text = "añ 漢字 👩‍🚀 end"
    found, stopped = pieces(bytewise, text, [])
    assert "".join(found) == text
    assert not stopped
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in found)
    assert "漢" in found


def test_an_unfinished_character_is_told_at_the_end(bytewise: Any) -> None:
    ids = bytewise("漢").input_ids[:2]
    stream = TextStream(bytewise)
    assert [stream.add(token) for token in ids] == ["", ""]
    assert stream.end() == "\N{REPLACEMENT CHARACTER}"


@settings(max_examples=examples(60), deadline=None)
@given(st.text("abc ", max_size=20), st.lists(st.text("abc ", min_size=1, max_size=3), max_size=3))
def test_nothing_of_a_stop_string_is_ever_sent(text: str, stops: list[str]) -> None:
    found, stopped = pieces(TOKENIZER, text, stops)
    places = [text.find(stop) for stop in stops if stop in text]
    assert stopped == bool(places)
    if not places:
        assert "".join(found) == text
        return
    # The stop string that is complete first ends the answer, at its beginning.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    before = text[: min(ends)]
    assert "".join(found) == before[: min(before.find(s) for s in stops if s in before)]


def test_special_tokens_are_left_out() -> None:
    stream = TextStream(TOKENIZER)
    ids = TOKENIZER("a<eos>b", add_special_tokens=False).input_ids
    assert "".join(map(stream.add, ids)) + stream.end() == "ab"
