"""Tiny tokenizers and chat templates in the forms of Gemma, Qwen, Llama and SmolLM."""

from collections.abc import Callable
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<turn>", "<end>", "<think>", "</think>")
SENTENCES = (
    "The cat sat on the mat, and the user asked the assistant about the system.",
    "A model of the world is  not the world;\n\nit is a model\n of a model.",
    "user\nassistant\nsystem\n Hello there, how are you today? I am fine, thank you.",
)

Messages = list[dict[str, str]]
Pieces = list[tuple[str, bool]]


def byte_level(
    *,
    merges: bool = True,
    bos: bool = False,
    trim_offsets: bool = False,
    template: str | None = None,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE (SmolLM, Qwen, Llama 3); without merges every byte is a token."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    size = len(alphabet) + (120 if merges else 0)
    trainer: Any = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    steps: list[Any] = [processors.ByteLevel(trim_offsets=True)] if trim_offsets else []
    if bos:
        steps.append(_writes_bos(tokenizer))
    if steps:
        tokenizer.post_processor = processors.Sequence(steps)
    return _wrap(tokenizer, template)


def metaspace(template: str | None = None) -> PreTrainedTokenizerFast:
    """Gemma's kind: spaces become "▁", unknown characters become bytes, BOS is added."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    letters = sorted({letter for text in SENTENCES for letter in text.replace(" ", "▁")})
    vocabulary |= {letter: 256 + place for place, letter in enumerate(letters)}
    vocabulary |= {"▁t": len(vocabulary), "he": len(vocabulary) + 1}
    merges = [("▁", "t"), ("h", "e")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.post_processor = _writes_bos(tokenizer)
    return _wrap(tokenizer, template)


def _writes_bos(tokenizer: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )


def _wrap(tokenizer: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>"
    )
    wrapped.chat_template = template
    return wrapped


class Slow(PreTrainedTokenizer):
    """A tokenizer without offsets: runs of up to `width` characters, each a token."""

    def __init__(self, width: int = 1, **options: Any) -> None:
        self.width = width
        self.known: dict[str, int] = {}
        super().__init__(**options)

    @property
    def vocab_size(self) -> int:
        return 10_000

    def get_vocab(self) -> dict[str, int]:
        return dict(self.known)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return [text[start : start + self.width] for start in range(0, len(text), self.width)]

    def _convert_token_to_id(self, token: str) -> int:
        return self.known.setdefault(token, len(self.known))

    def _convert_id_to_token(self, index: int) -> str:
        return next((token for token, known in self.known.items() if known == index), "?")

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful model.<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Writes BOS itself, trims, renames a role, and refuses system messages and turns out of order.
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}"
    "{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<turn>' + role + '\n' + message['content'] | trim + '<end>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
# Merges a system message, untrimmed, into the first user turn, whose own text it trims.
MERGING = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}"
    "{{ '<turn>' + message['role'] + '\n' + (first if loop.first else '') }}"
    "{{ message['content'] | trim + '<end>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
# Knows `enable_thinking`, strips newlines before an assistant's text, drops its reasoning.
QWEN = (
    "{% for message in messages %}"
    "{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{% set content = content.lstrip('\n') %}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
# Writes the last message first, and the first one twice.
MOVING = (
    "{% for message in messages | reverse %}{{ '<turn>' + message['content'] + '<end>' }}"
    "{% endfor %}{{ '<turn>' + messages[0]['content'] + '<end>' }}"
)
DROPPING = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ '<turn>' + message['content'] + '<end>' }}{% endif %}{% endfor %}"
)


def chatml(messages: Messages) -> Pieces:
    pieces: Pieces = []
    if messages[0]["role"] != "system":
        pieces.append(("<|im_start|>system\nYou are a helpful model.<|im_end|>\n", False))
    for message in messages:
        pieces += [(f"<|im_start|>{message['role']}\n", False), (message["content"], True)]
        pieces.append(("<|im_end|>\n", False))
    return [*pieces, ("<|im_start|>assistant\n", False)]


def gemma(messages: Messages) -> Pieces:
    pieces: Pieces = [("<bos>", False)]
    for message in messages:
        role = "model" if message["role"] == "assistant" else message["role"]
        pieces += [(f"<turn>{role}\n", False), (message["content"].strip(), True)]
        pieces.append(("<end>\n", False))
    return [*pieces, ("<turn>model\n", False)]


def merging(messages: Messages) -> Pieces:
    pieces: Pieces = [("<bos>", False)]
    system = messages[0] if messages[0]["role"] == "system" else None
    for number, message in enumerate(messages[1:] if system else messages):
        pieces.append((f"<turn>{message['role']}\n", False))
        if system and not number:
            pieces += [(system["content"], True), ("\n\n", False)]
        pieces += [(message["content"].strip(), True), ("<end>\n", False)]
    return [*pieces, ("<turn>model\n", False)]


def qwen(messages: Messages) -> Pieces:
    pieces: Pieces = []
    for message in messages:
        text = message["content"]
        text = text.lstrip("\n") if message["role"] == "assistant" else text
        pieces += [(f"<|im_start|>{message['role']}\n", False), (text, True)]
        pieces.append(("<|im_end|>\n", False))
    return [*pieces, ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False)]


def moving(messages: Messages) -> Pieces:
    pieces: Pieces = []
    for message in [*reversed(messages), messages[0]]:
        pieces += [("<turn>", False), (message["content"], True), ("<end>", False)]
    return pieces


# Each template, and what it should write, told apart by hand.
FORMS: dict[str, tuple[str, Callable[[Messages], Pieces]]] = {
    "chatml": (CHATML, chatml),
    "gemma": (GEMMA, gemma),
    "merging": (MERGING, merging),
    "qwen": (QWEN, qwen),
    "moving": (MOVING, moving),
}
