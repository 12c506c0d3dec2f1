"""Conversation formats by name: the paper's, to the character."""

import pytest
import torch

from dspa_nn import DSPA
from dspa_nn.errors import TripleError
from dspa_nn.prompts import FORMATS, HUMAN_ASSISTANT, in_format, render
from tests import tiny

TALK = [
    {"role": "user", "content": "Where is the sea?"},
    {"role": "assistant", "content": "In the west."},
    {"role": "user", "content": " How far? "},
]


def test_the_papers_format_is_written_to_the_character() -> None:
    tok = in_format(tiny.tokenizer("add"), "human-assistant")
    rendered = render(tok, TALK)
    assert rendered.text == (
        "<bos>Human: Where is the sea?\n\nAssistant: In the west.<eos>\n\n"
        "Human:  How far? \n\nAssistant:"
    )
    text = rendered.text.removeprefix("<bos>")
    assert rendered.ids.tolist() == tok(text).input_ids  # the whole, once, with one BOS
    assert rendered.ids[0] == tok.bos_token_id
    assert (rendered.ids == tok.bos_token_id).sum() == 1
    content = tok.decode(rendered.ids[rendered.content])
    assert content == "Where is the sea?In the west. How far? "


def test_without_a_bos_none_is_written() -> None:
    tok = in_format(tiny.tokenizer("none"), "human-assistant")
    rendered = render(tok, [{"role": "system", "content": "be kind"}, *TALK[:1]])
    assert rendered.text == "System: be kind\n\nHuman: Where is the sea?\n\nAssistant:"
    assert not rendered.has_bos


def test_the_tokenizer_that_came_keeps_its_template() -> None:
    tok = tiny.tokenizer("markup")
    before = tok.chat_template
    twin = in_format(tok, "human-assistant")
    assert (tok.chat_template, twin.chat_template) == (before, HUMAN_ASSISTANT)
    assert in_format(tok, None) is tok
    assert in_format(tok, "own") is tok
    assert torch.equal(render(tok, "sun").ids, render(twin, "sun").ids)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(TripleError, match=r"human-asistant.*did you mean 'human-assistant'"):
        in_format(tiny.tokenizer("add"), "human-asistant")


def test_a_dspa_writes_its_format_and_maps_remember_it() -> None:
    model = tiny.nnsight_model(tiny.model("gemma2"), tiny.tokenizer("add"))
    one, other = tiny.saes(model._module, "jumprelu")
    kinds = [
        DSPA(model, input_sae=one, output_sae=other, template=name) for name in (None, *FORMATS)
    ]
    assert len({kind.provenance()["template_sha256"] for kind in kinds}) == 3
    assert kinds[1].render(TALK[:1]).text.endswith("\n\nAssistant:")
    assert kinds[0].render(TALK[:1]).text.startswith("<bos><|im_start|>")
    assert "im_start" in model.tokenizer.chat_template
