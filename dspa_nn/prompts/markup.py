"""Markup in texts: special tokens, and the chat template's own turns, written out in a text.

A tokenizer parses `<|im_end|>` in a user's text as the token that ends a turn. So text that was
rendered once and is rendered again holds every turn's markup twice, and a response that ends in an
end-of-turn token has that token counted. Nothing is removed from the text: a warning names it.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, cast
from weakref import WeakKeyDictionary

# Markup that a template writes as plain text, as those of Llama 2 and Zephyr do.
_WRITTEN_OUT = re.compile(r"<\|[^|<>\s]{1,40}\|>|\[/?[A-Z_]{3,}\]|<</?[A-Z]+>>")

# What turns begin and end with in families in use: texts are often rendered for another model.
OF_FAMILIES = (
    "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "<|endoftext|>", "[INST]", "[/INST]",
    "<|user|>", "<|assistant|>", "<|system|>",
)  # fmt: skip

_patterns: "WeakKeyDictionary[Any, tuple[str, re.Pattern[str]]]" = WeakKeyDictionary()


def markup_in(tokenizer: Any, *texts: str) -> tuple[str, ...]:
    """Special tokens and template markup that stand in the texts, each named once, in their order.

    >>> markup_in(tokenizer, "Hello"), markup_in(tokenizer, f"Hello{tokenizer.eos_token}")
    ((), ('...',))
    """
    search = _pattern(tokenizer)
    return tuple(dict.fromkeys(name for text in texts for name in search.findall(text) if name))


def _pattern(tokenizer: Any) -> re.Pattern[str]:
    template = str(getattr(tokenizer, "chat_template", None) or "")
    # One that was given another template, or tokens, since it was last asked is read again.
    size: Callable[[Any], int] = getattr(type(cast(object, tokenizer)), "__len__", id)
    key = f"{hash(template)} {size(tokenizer)}"
    known = _patterns.get(tokenizer)
    if known is None or known[0] != key:
        known = key, _compiled(tokenizer, template)
        _patterns[tokenizer] = known
    return known[1]


def _compiled(tokenizer: Any, template: str) -> re.Pattern[str]:
    names = {str(token) for token in tokenizer.all_special_tokens}
    try:
        added = list(getattr(tokenizer, "added_tokens_decoder", {}).values())
    except NotImplementedError:  # Mistral's own class
        added = []
    for token in added:
        text = str(token)
        # Not every family calls its turns' tokens special: what the template writes are these.
        if getattr(token, "special", False) or (text in template and not text.isalnum()):
            names.add(text)
    names |= set(OF_FAMILIES if template else ())
    names |= set(_WRITTEN_OUT.findall(template))
    wanted = sorted((name for name in names if name.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, wanted)) or "(?!)")


def named(names: Iterable[str], most: int = 5) -> str:
    """Names of tokens for a sentence: the first few of them.

    >>> named(["<s>", "</s>"])
    "'<s>', '</s>'"
    """
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(repr, listed[:most])) + more
