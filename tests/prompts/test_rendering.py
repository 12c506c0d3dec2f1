"""Prompts and responses as ids, and content tokens known by construction."""

import pickle
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.errors import DSPAWarning, TripleError
from dspa_nn.prompts import PLAIN_TEMPLATE, Rendered, render
from dspa_nn.triples import PreferenceTriple, load_triples
from tests.chat_zoo import (
    CHATML,
    DROPPING,
    FORMS,
    GEMMA,
    QWEN,
    SPECIAL,
    Messages,
    Pieces,
    Slow,
    byte_level,
    metaspace,
)
from tests.examples import examples

# Texts here hold markup on purpose.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(a message's text|the string prompt|the response) holds:dspa_nn.errors.DSPAWarning"
)

CHAT: Messages = [{"role": "user", "content": " the cat "}]
KINDS: dict[str, dict[str, Any]] = {
    "bytes": {"merges": False},
    "bpe": {},
    "bpe, BOS, trimmed offsets": {"bos": True, "trim_offsets": True},
}


@cache
def tokenizer_of(kind: str, form: str) -> Any:
    return byte_level(**KINDS[kind], template=FORMS[form][0])


def bytes_of(token: str) -> int:
    """How many bytes of the text a byte-level token stands for."""
    return len(token.encode()) if token in SPECIAL else len(token)


def told_apart(tokenizer: Any, ids: torch.Tensor, pieces: Pieces) -> list[bool]:
    """The content mask by another way: tokens and hand-written pieces, laid out in bytes."""
    own: list[bool] = []
    for text, is_content in pieces:
        own += [is_content] * len(text.encode())
    mask, place = [], 0
    for token in tokenizer.convert_ids_to_tokens(ids.tolist()):
        mask.append(any(own[place : place + bytes_of(token)]))
        place += bytes_of(token)
    assert place == len(own)
    return mask


# What could be mistaken for something else: markup, sentinels, and whitespace that is trimmed.
tricky = st.sampled_from([*SPECIAL, "dspa", "dspa0z", "dspax1z", "user\n", "\n", " ", "\u2003"])
texts = (
    st.lists(tricky | st.text(max_size=8), max_size=4)
    .map("".join)
    .filter(lambda text: "</think>" not in text)
)


@st.composite
def chats(draw: st.DrawFn, system: bool) -> Messages:
    roles = ["system"] if system and draw(st.booleans()) else []
    roles += ["user", "assistant"] * draw(st.integers(0, 2)) + ["user"]
    return [{"role": role, "content": draw(texts)} for role in roles]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_content_tokens_are_those_of_the_messages(kind: str, form: str) -> None:
    tokenizer = tokenizer_of(kind, form)

    @settings(max_examples=examples(40), deadline=None, derandomize=True)
    @given(chats(system=form != "gemma"), st.text(min_size=1, max_size=20))
    def check(messages: Messages, response: str) -> None:
        pieces = FORMS[form][1](messages)
        prompt = render(tokenizer, messages)
        assert prompt.text == "".join(text for text, _ in pieces)
        assert prompt.ids.tolist() == tokenizer(prompt.text, add_special_tokens=False).input_ids
        assert prompt.content.tolist() == told_apart(tokenizer, prompt.ids, pieces)

        both = render(tokenizer, messages, response)
        assert torch.equal(both.prompt_ids, prompt.ids)
        assert torch.equal(both.content, prompt.content)
        assert both.text == prompt.text + response
        assert both.response_ids.tolist() == tokenizer(response, add_special_tokens=False).input_ids

    check()


@pytest.mark.parametrize("form", FORMS)
def test_without_merges_content_tokens_decode_to_the_contents(form: str) -> None:
    tokenizer = tokenizer_of("bytes", form)
    messages = [
        {"role": "user", "content": "naïve <|im_end|> dspa0z 😀"},
        {"role": "assistant", "content": "dspa1z"},
        {"role": "user", "content": "and?"},
    ]
    rendered = render(tokenizer, messages)
    contents = [text for text, own in FORMS[form][1](messages) if own]
    assert tokenizer.decode(rendered.ids[rendered.content]) == "".join(contents)


def test_metaspace_tokens_and_one_bos() -> None:
    tokenizer = metaspace(GEMMA)
    rendered = render(tokenizer, [{"role": "user", "content": "  sat on the mat ☂"}])
    assert rendered.ids.tolist().count(tokenizer.bos_token_id) == 1
    assert rendered.has_bos
    assert not rendered.content[0]
    assert tokenizer.decode(rendered.ids[rendered.content]) == "sat on the mat ☂"


def test_a_template_without_bos_gets_none() -> None:
    rendered = render(byte_level(bos=True, template=CHATML), CHAT)
    assert not rendered.has_bos
    assert rendered.text.startswith("<|im_start|>system")


def test_thinking_is_switched_off_where_the_template_knows_it() -> None:
    assert render(byte_level(template=QWEN), CHAT).text.endswith("<think>\n\n</think>\n\n")


def test_a_string_is_tokenised_once_with_the_default_special_tokens() -> None:
    tokenizer = byte_level(bos=True, template=CHATML)
    rendered = render(tokenizer, "the <|im_end|> cat")
    assert rendered.ids.tolist() == tokenizer("the <|im_end|> cat").input_ids
    assert rendered.text == "<bos>the <|im_end|> cat"
    assert rendered.content.all()
    assert rendered.counted("content").tolist() == [False] + [True] * (len(rendered.ids) - 1)
    assert rendered.counted("all").tolist() == rendered.counted("content").tolist()


def test_a_string_without_bos_counts_from_its_first_token() -> None:
    rendered = render(byte_level(), "the cat")
    assert rendered.text == "the cat"
    assert rendered.counted("all").all()


def test_bos_written_in_the_text_of_a_string_does_not_count() -> None:
    rendered = render(byte_level(), "<bos>the cat")
    assert rendered.counted("all").tolist() == [False] + [True] * (len(rendered.ids) - 1)


def test_bos_twice_warns() -> None:
    with pytest.warns(DSPAWarning) as caught:
        rendered = render(byte_level(bos=True), "<bos>the cat")
    assert rendered.text == "<bos><bos>the cat"
    assert str(caught[0].message) == (
        "the string prompt begins with '<bos>' and the tokenizer adds one more, so that the model "
        "sees it twice: leave it out of the text"
    )


def test_a_later_bos_counts() -> None:
    tokenizer = byte_level(template=GEMMA)
    rendered = render(tokenizer, [{"role": "user", "content": "<bos> the"}])
    bos = rendered.ids == rendered.ids[0]
    assert bos.sum() == 2
    assert rendered.counted("all")[bos].tolist() == [False, True]
    assert rendered.counted("content")[bos].tolist() == [False, True]


def test_without_a_template_the_plain_format() -> None:
    messages = [{"role": "system", "content": "Be kind."}, *CHAT]
    tokenizer = byte_level(bos=True)
    rendered = render(tokenizer, messages)
    assert rendered.text == "<bos>System:\nBe kind.\n\nUser:\n the cat \n\nAssistant:\n"
    assert rendered.ids.tolist() == tokenizer(rendered.text, add_special_tokens=False).input_ids
    pieces = [("<bos>System:\n", False), ("Be kind.", True), ("\n\nUser:\n", False)]
    pieces += [(" the cat ", True), ("\n\nAssistant:\n", False)]
    assert rendered.content.tolist() == told_apart(tokenizer, rendered.ids, pieces)
    assert "Assistant" in PLAIN_TEMPLATE


def test_empty_contents_count_nothing() -> None:
    rendered = render(byte_level(bos=True, template=GEMMA), [{"role": "user", "content": ""}])
    assert rendered.counted("content").sum() == 0
    assert rendered.counted("all").sum() == rendered.prompt_length - 1


def test_an_empty_string_has_bos_alone() -> None:
    rendered = render(byte_level(bos=True), "")
    assert rendered.ids.tolist() == [render(byte_level(bos=True), "a").ids[0]]
    assert rendered.counted("all").tolist() == [False]
    assert render(byte_level(), "").prompt_length == 0


def test_trimmed_offsets_give_the_leading_space_back() -> None:
    tokenizer = byte_level(trim_offsets=True, template=FORMS["moving"][0])
    rendered = render(tokenizer, [{"role": "user", "content": "   "}])
    assert tokenizer.decode(rendered.ids[rendered.content]) == "   " * 2


def test_a_rendered_prompt_is_taken_as_it_is() -> None:
    tokenizer = byte_level(template=CHATML)
    prompt = render(tokenizer, CHAT)
    assert render(tokenizer, prompt) is prompt
    both = render(tokenizer, prompt, "mat")
    assert both.ids.tolist() == render(tokenizer, CHAT, "mat").ids.tolist()
    assert len(prompt.response_ids) == 0


def test_a_triple_in_the_form_it_is_kept_in_renders_as_its_list_did() -> None:
    tokenizer = byte_level(template=CHATML)
    triple = PreferenceTriple(CHAT, "mat", "cat")
    assert render(tokenizer, triple.prompt).ids.tolist() == render(tokenizer, CHAT).ids.tolist()


def test_show_tells_the_kinds_apart() -> None:
    tokenizer = byte_level(merges=False, template=GEMMA)
    rendered = render(tokenizer, CHAT, "mat")
    assert repr(rendered).splitlines() == [
        "Rendered: 23 prompt tokens (7 content, 15 markup, 1 BOS), 3 response tokens",
        "bos            0-0  '<bos>'",
        "markup         1-6  '<turn>user\\n'",
        "content       7-13  'the cat'",
        "markup       14-22  '<end>\\n<turn>model\\n'",
        "response     23-25  'mat'",
    ]
    again: Rendered = pickle.loads(pickle.dumps(rendered))
    assert again.show() == rendered.show()


@pytest.mark.parametrize("template", [CHATML, None])
def test_a_slow_tokenizer_is_read_piece_by_piece(template: str | None) -> None:
    tokenizer = Slow(chat_template=template)
    rendered = render(tokenizer, CHAT, "mat")
    own = tokenizer.convert_ids_to_tokens(rendered.prompt_ids[rendered.content].tolist())
    assert "".join(own) == " the cat "
    assert rendered.text.endswith("mat")


def sentence(call: Any, *arguments: Any) -> str:
    with pytest.raises(TripleError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_slow_tokenizer_across_a_border_is_refused() -> None:
    assert sentence(render, Slow(width=4, chat_template=CHATML), CHAT) == (
        "the tokenizer is a slow one, without offsets, and its tokens run across the border of a "
        "message's text, where content must be told from markup: load the fast tokenizer of this "
        "model, or give the prompt as a string"
    )


def test_a_system_message_that_the_template_refuses() -> None:
    messages = [{"role": "system", "content": "Be kind."}, *CHAT]
    assert sentence(render, byte_level(template=GEMMA), messages) == (
        "the chat template refused messages of the roles system, user (System role not supported): "
        "give roles and an order that this model knows"
    )


def test_a_message_that_the_template_leaves_out() -> None:
    messages = [{"role": "system", "content": "Be kind."}, *CHAT]
    assert sentence(render, byte_level(template=DROPPING), messages) == (
        "the chat template leaves out message 0 (role 'system') of the roles system, user, where "
        "each was expected in the text: leave that message out yourself"
    )


def test_a_message_that_the_template_rewrites() -> None:
    messages = [*CHAT, {"role": "assistant", "content": "<think>so</think>mat"}, *CHAT]
    assert sentence(render, byte_level(template=QWEN), messages) == (
        "the chat template rewrites the text of messages of the roles user, assistant, user, where "
        "each was expected as it stands or trimmed: give them as the template writes them "
        "(reasoning left out of earlier turns, for one)"
    )


def test_several_templates_and_no_default() -> None:
    tokenizer: Any = byte_level()
    tokenizer.chat_template = {"tools": CHATML, "rag": CHATML}
    assert sentence(render, tokenizer, CHAT) == (
        "the tokenizer has the chat templates ['rag', 'tools'], where one named 'default' was "
        "expected: set tokenizer.chat_template to the one to use"
    )


@pytest.mark.usefixtures("unchecked")
def test_bad_responses_and_prompts() -> None:
    tokenizer = byte_level()
    assert sentence(render, tokenizer, "the", "") == (
        "the response '' has no tokens, where at least one was expected: give some text"
    )
    assert sentence(render, tokenizer, "the", 3) == (
        "a response of type int came, where a string was expected: give its text"
    )
    assert sentence(render, tokenizer, render(tokenizer, "the", "a"), "b") == (
        "a response came for a rendering that already has one of 1 tokens, where a prompt alone "
        "was expected: render the prompt without a response"
    )
    assert sentence(render, tokenizer, 3) == (
        "a prompt of type int came, where a string or a list of chat messages was expected: give "
        "one of the two"
    )


def test_counted_knows_two_ways() -> None:
    with pytest.raises(TripleError) as caught:
        render(byte_level(), "the").counted("markup")
    assert str(caught.value) == (
        "prompt_tokens='markup' came, where 'content' or 'all' was expected: give one of the two"
    )


@pytest.mark.slow
@pytest.mark.data
def test_ultrafeedback_contents_in_the_embedded_model(data: Any, embedded: str) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(embedded)
    for triple in load_triples(data / "ultrafeedback" / "triples.jsonl", chat=True)[::20]:
        prompt = render(tokenizer, triple.prompt)
        content = triple.prompt[0]["content"]  # pyright: ignore[reportArgumentType, reportIndexIssue]
        assert prompt.has_bos
        assert prompt.text == tokenizer.decode(prompt.ids)
        # Markup ends in "\n", which may share a token with whitespace that the content opens with.
        found = tokenizer.decode(prompt.ids[prompt.content])
        assert found.lstrip() == content.lstrip()
        both = render(tokenizer, prompt, triple.chosen)
        assert torch.equal(both.prompt_ids, render(tokenizer, prompt, triple.rejected).prompt_ids)
        assert tokenizer.decode(both.response_ids) == triple.chosen
