"""Text that was rendered before, and tokenizers that write chats by code."""

import warnings
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from dspa_nn.counts import prepare
from dspa_nn.errors import DSPAWarning, TripleError
from dspa_nn.prompts import markup_in, render
from dspa_nn.triples import PreferenceTriple
from tests import chat_zoo, steer_zoo

HELLO = [{"role": "user", "content": "Hello there"}]


def said(call: Any, *args: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args)
    return [str(one.message) for one in caught if issubclass(one.category, DSPAWarning)]


@pytest.fixture(params=["chatml", "gemma", "qwen"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return chat_zoo.byte_level(template=chat_zoo.FORMS[request.param][0])


@pytest.mark.parametrize("text", ["<start_of_turn>user", "[INST] hi [/INST]", "a<|eot_id|>"])
def test_markup_of_another_familys_template_is_told_of(tokenizer: Any, text: str) -> None:
    (sentence,) = said(render, tokenizer, [{"role": "user", "content": text}])
    assert sentence.startswith("a message's text holds '")
    assert said(render, tokenizer, HELLO) == []


def test_a_prompt_that_was_rendered_before(tokenizer: Any) -> None:
    once = render(tokenizer, HELLO).text
    (again,) = said(render, tokenizer, [{"role": "user", "content": once}])
    assert again.startswith("a message's text holds '<")
    assert "text that was rendered before as a string prompt" in again
    (string,) = said(render, tokenizer, once)
    assert string.startswith("the string prompt holds '<")
    assert said(render, tokenizer, HELLO) == said(render, tokenizer, "Hello") == []
    assert said(render, tokenizer, render(tokenizer, HELLO)) == []  # said when it was rendered


def test_markup_in_an_answer_that_is_continued(tokenizer: Any) -> None:
    def run(prefix: str) -> None:
        begun = [*HELLO, {"role": "assistant", "content": prefix}]
        render(tokenizer, begun, continue_final_message=True)

    assert said(run, "Well, ") == []
    (sentence,) = said(run, "Well, [INST] ")
    assert sentence.startswith("a message's text holds '[INST]'")


def test_an_end_of_turn_in_a_response(tokenizer: Any) -> None:
    (text,) = said(render, tokenizer, HELLO, "Hi.<|im_end|>")
    assert text.startswith("the response holds '<|im_end|>', which counts as its content")


def test_markup_that_is_no_special_token() -> None:
    template = "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}<|user|>"
    tokenizer = chat_zoo.byte_level(template=template)
    assert markup_in(tokenizer, "[INST] a <|user|> [INST]", "<eos> [1] <b>") == (
        "[INST]", "<|user|>", "<eos>",
    )  # fmt: skip
    tokenizer.chat_template = None
    assert markup_in(tokenizer, "[INST] a <|user|>") == ()


def test_counting_speaks_once(tokenizer: Any) -> None:
    once = render(tokenizer, HELLO).text
    triples = [PreferenceTriple(HELLO, "Hi.", "No.") for _ in range(3)]
    assert said(prepare, triples, tokenizer, 512, "error") == []
    marked = [
        *triples,
        PreferenceTriple(HELLO, "Hi.<|im_end|>", "No.<|im_end|>"),
        PreferenceTriple([{"role": "user", "content": once}], "Hi.", "No."),
        PreferenceTriple(once, "Hi.", "No.<|im_end|>"),
    ]
    (text,) = said(prepare, marked, tokenizer, 512, "error")
    assert text.startswith("3 of 6 triples hold special tokens or a chat template's markup in ")
    assert "'<|im_end|>'" in text
    assert "; triples 3, 4, 5)" in text


def test_apply_and_attach_speak_of_their_prompt() -> None:
    lab = steer_zoo.lab("llama", "add", chat=True)
    prompt = [{"role": "user", "content": f"sun{lab.tok.all_special_tokens[-1]}"}]
    (text,) = said(lab.dspa.prompt_batch, prompt)
    assert text.startswith("a message's text holds")


class Mistral(PreTrainedTokenizerBase):
    """As transformers' wrapper of mistral-common: no `is_fast`, no template, chats by code."""

    def __init__(self) -> None:
        super().__init__(bos_token="<s>", eos_token="</s>")
        self.special: list[str] = ["<s>", "</s>", "[INST]", "[/INST]"]

    def __len__(self) -> int:
        return 300

    @property
    def all_special_tokens(self) -> list[str]:
        return self.special

    @property
    def all_special_ids(self) -> list[int]:
        return [0, 1, 2, 3]

    @property
    def bos_token_id(self) -> int:
        return 0

    def apply_chat_template(self, conversation: Any, **_: Any) -> Any:
        return [0, 2, *conversation[0]["content"].encode(), 3]

    def get_chat_template(self, *_: Any, **__: Any) -> str:
        raise NotImplementedError

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return 1

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        return [self.special[i] if i < 4 else chr(i) for i in ids]

    def decode(self, token_ids: Any, **_: Any) -> str:
        return "".join(self.convert_ids_to_tokens(token_ids))

    def __call__(self, text: str, add_special_tokens: bool = True, **options: Any) -> Any:
        from transformers import BatchEncoding

        assert not options.get("return_offsets_mapping")
        ids = [0] * add_special_tokens + [ord(letter) for letter in text]
        mask = [1] * add_special_tokens + [0] * len(text)
        return BatchEncoding({"input_ids": ids, "special_tokens_mask": mask})


def test_a_tokenizer_that_writes_chats_by_code() -> None:
    tokenizer = Mistral()
    assert not hasattr(tokenizer, "is_fast")
    rendered = render(tokenizer, "Hi", "you")
    assert rendered.text == "<s>Hiyou"
    assert rendered.ids.tolist() == [0, *map(ord, "Hiyou")]
    with pytest.raises(
        TripleError, match="messages came for a Mistral, which writes chats by code"
    ):
        render(tokenizer, HELLO)


def test_the_class_of_transformers_is_known() -> None:
    from transformers.tokenization_mistral_common import MistralCommonBackend

    real = object.__new__(MistralCommonBackend)
    with pytest.raises(TripleError, match="messages came for a MistralCommonBackend"):
        render(real, HELLO)
