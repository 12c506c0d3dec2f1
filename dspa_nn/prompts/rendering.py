"""From a prompt to exactly the token ids that the model sees, with the content tokens known.

Everything is known by construction: a chat template is rendered once more with sentinels in place
of the messages' contents, which shows the literal pieces between them; where each content lies in
the real rendering is then arithmetic on lengths, never a search (docs/method.md 5).
"""

from itertools import groupby, takewhile
from typing import Any, TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from dspa_nn.errors import TripleError
from dspa_nn.progress import warn
from dspa_nn.prompts.formats import written_as_text
from dspa_nn.prompts.markup import markup_in, named
from dspa_nn.prompts.rendered import Rendered
from dspa_nn.prompts.spans import content_spans, overlaps, piecewise
from dspa_nn.prompts.templates import ANSWERED, CONTINUED, Ending, chat_template
from dspa_nn.triples import Message, Prompt, as_messages, check_text

Renderable: TypeAlias = Prompt | Rendered


def render(
    tokenizer: Any,
    prompt: Renderable,
    response: str | None = None,
    *,
    continue_final_message: bool = False,
) -> Rendered:
    """Render a prompt, and a response joined to it, into exactly what the model sees.

    >>> prompt = render(tokenizer, "Hello")
    >>> good, bad = (render(tokenizer, prompt, text) for text in ("Hi!", "What?"))
    >>> torch.equal(good.prompt_ids, bad.prompt_ids), len(good.response_ids)
    (True, 3)

    A string is tokenised once with the default special tokens. A message list goes through the
    chat template up to and including the generation header (`enable_thinking=False` where the
    template knows it), tokenised once, with no special tokens but those that the template writes;
    without a template, through `prompts.PLAIN_TEMPLATE`, tokenised as a string is. The response
    is its own text's tokens, with no BOS and no EOS, joined to the prompt's ids. A prompt token is
    content if it overlaps a content's characters by at least one: a token across the border counts
    (docs/method.md 5).

    Args:
        tokenizer: of the transformers kind, fast or slow.
        prompt: a string, a list of messages, or what `render` returned for one.
        response: text to join, or None.
        continue_final_message: end with the text of the last message, the assistant's, which a
            generation then continues; by default that message is closed like the others, and a
            new turn of the assistant's begins.

    Raises:
        TripleError: a prompt that is neither, messages that the template refuses, drops or
            rewrites, an empty response, or a slow tokenizer whose tokens run across a border.
    """
    if continue_final_message:
        messages = () if isinstance(prompt, str | Rendered) else as_messages(prompt)
        last = messages[-1] if messages else None
        if last is None or last["role"] != "assistant" or not last["content"].strip():
            raise TripleError(
                "continue_final_message=True came with a prompt that does not end in a message of "
                "the assistant's with some text; give chat messages that do, or leave it out"
            )
        rendered = render_messages(tokenizer, messages, CONTINUED)
        rendered = rendered if response is None else _join(tokenizer, rendered, response)
    else:
        rendered = render_quietly(tokenizer, prompt, response)
    warn_of_markup(tokenizer, prompt, response)
    return rendered


def render_quietly(tokenizer: Any, prompt: Renderable, response: str | None = None) -> Rendered:
    """Render as `render` does, and leave it to the caller to speak of markup in the texts.

    >>> render_quietly(tokenizer, "Hello").text == render(tokenizer, "Hello").text
    True
    """
    if isinstance(prompt, Rendered):
        rendered = prompt
    elif isinstance(prompt, str):
        rendered = _render_string(tokenizer, prompt)
    else:
        rendered = render_messages(tokenizer, as_messages(prompt))
    return rendered if response is None else _join(tokenizer, rendered, response)


def markup_of(tokenizer: Any, prompt: Renderable) -> tuple[str, ...]:
    """Markup that stands in a prompt's own texts; a leading BOS of a string is not meant.

    >>> markup_of(tokenizer, "Hello"), markup_of(tokenizer, render(tokenizer, "Hello"))
    ((), ())
    """
    if isinstance(prompt, Rendered):
        return ()
    if isinstance(prompt, str):
        return markup_in(tokenizer, prompt.removeprefix(str(tokenizer.bos_token or "")))
    return markup_in(tokenizer, *(message["content"] for message in prompt))


def warn_without_template(tokenizer: Any, model_id: str) -> None:
    """Warn that a model has no chat template, where its answers to messages are to be judged.

    >>> warn_without_template(tokenizer, "tiny")
    """
    if not getattr(tokenizer, "chat_template", None):
        warn(
            f"the tokenizer of {model_id} has no chat template, so messages are put to it as plain "
            "paragraphs ('User:', 'Assistant:'): set tokenizer.chat_template, or use a model that "
            "was tuned to chat"
        )


def warn_of_markup(tokenizer: Any, prompt: Renderable, response: str | None = None) -> None:
    """Warn of markup that stands in the texts of a prompt or in a response.

    >>> warn_of_markup(tokenizer, [{"role": "user", "content": "Hello"}])
    """
    of_prompt = markup_of(tokenizer, prompt)
    if of_prompt and isinstance(prompt, str):
        text = (
            f"the string prompt holds {named(of_prompt)}, which is markup and counts as content "
            "like all of a string: give the turns as chat messages, so that markup is told apart, "
            "or take it out of the text"
        )
        warn(text)
    elif of_prompt:
        text = (
            f"a message's text holds {named(of_prompt)}, markup that chat templates write "
            "around each message, so that the model sees turns within a turn: give each turn as a "
            "message of its own, or text that was rendered before as a string prompt (chat=False)"
        )
        warn(text)
    of_response = () if response is None else markup_in(tokenizer, response)
    if of_response:
        text = (
            f"the response holds {named(of_response)}, which counts as its content: leave out what "
            "ends a turn, and give further turns as messages"
        )
        warn(text)


def _join(tokenizer: Any, prompt: Rendered, response: object) -> Rendered:
    if len(prompt.response_ids):
        raise TripleError(
            f"a response came for a rendering that already has one of {len(prompt.response_ids)} "
            "tokens, where a prompt alone was expected: render the prompt without a response"
        )
    if not isinstance(response, str):
        raise TripleError(
            f"a response of type {type(response).__name__} came, where a string was expected: "
            "give its text"
        )
    check_text(response, "the response")
    ids = torch.tensor(tokenizer(response, add_special_tokens=False).input_ids, dtype=torch.int64)
    if not len(ids):
        raise TripleError(
            f"the response {response!r} has no tokens, where at least one was expected: "
            "give some text"
        )
    return join(prompt, response, ids)


def join(prompt: Rendered, response: str, ids: Int64[Tensor, " response"]) -> Rendered:
    """Join a rendered prompt and a response that is tokenised already.

    >>> both = render(tokenizer, "Hello", " there")
    >>> join(render(tokenizer, "Good day"), " there", both.response_ids).text.endswith("day there")
    True
    """
    return Rendered(
        text=prompt.text + response,
        ids=torch.cat([prompt.ids, ids]),
        prompt_length=prompt.prompt_length,
        content=prompt.content,
        has_bos=prompt.has_bos,
        pieces=(*prompt.pieces, ("response", prompt.prompt_length, response)),
    )


def _render_string(tokenizer: Any, prompt: str) -> Rendered:
    check_text(prompt, "the prompt")
    encoded = tokenizer(prompt, return_special_tokens_mask=True)
    ids = encoded.input_ids
    before, after = _added(tokenizer, ids, encoded.special_tokens_mask)
    if before and ids[:2] == [tokenizer.bos_token_id] * 2:
        warn(
            f"the string prompt begins with {tokenizer.bos_token!r} and the tokenizer adds one "
            "more, so that the model sees it twice: leave it out of the text",
        )
    return _rendered(tokenizer, "".join([*before, prompt, *after]), ids, [True] * len(ids))


def render_messages(
    tokenizer: Any, messages: tuple[Message, ...], ending: Ending = ANSWERED
) -> Rendered:
    """Render messages alone, with any ending.

    >>> messages = (Message("user", "Hello"),)
    >>> short, whole = (render_messages(tokenizer, messages, Ending(h)) for h in (False, True))
    >>> torch.equal(short.ids, whole.ids[: len(short.ids)])
    True

    Raises:
        TripleError: as `render`.
    """
    template = chat_template(tokenizer)
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    text, spans = content_spans(tokenizer, template, messages, ending)
    special = written_as_text(template)
    encoded = tokenizer(
        text,
        add_special_tokens=special,
        return_special_tokens_mask=True,
        return_offsets_mapping=is_fast,
    )
    ids = encoded.input_ids
    before, after = _added(tokenizer, ids, encoded.special_tokens_mask) if special else ([], [])
    if is_fast:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        content = list(overlaps(tokens, encoded.offset_mapping, spans))
    else:
        content = piecewise(tokenizer, text, spans, ids[len(before) : len(ids) - len(after)])
        content = [False] * len(before) + content + [False] * len(after)
    return _rendered(tokenizer, "".join([*before, text, *after]), ids, content)


def _added(tokenizer: Any, ids: list[int], mask: list[int]) -> tuple[list[str], list[str]]:
    """Return the special tokens that the tokenizer put before and after the text's own."""
    # A slow tokenizer's mask cannot tell a special token in the text from one that was added.
    most = tokenizer.num_special_tokens_to_add()
    before = min(len(list(takewhile(bool, mask))), most)
    after = min(len(list(takewhile(bool, reversed(mask)))), most - before)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return tokens[:before], tokens[len(tokens) - after :]


def _rendered(tokenizer: Any, text: str, ids: list[int], content: list[bool]) -> Rendered:
    has_bos = bool(ids) and ids[0] == tokenizer.bos_token_id
    kinds = ["content" if counts else "markup" for counts in content]
    if has_bos:
        kinds[0] = "bos"
    pieces: list[tuple[str, int, str]] = []
    start = 0
    for kind, run in groupby(kinds):
        end = start + len(list(run))
        pieces.append((kind, start, tokenizer.decode(ids[start:end])))
        start = end
    return Rendered(
        text=text,
        ids=torch.tensor(ids, dtype=torch.int64),
        prompt_length=len(ids),
        content=torch.tensor(content, dtype=torch.bool),
        has_bos=has_bos,
        pieces=tuple(pieces),
    )
