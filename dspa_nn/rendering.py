"""From a prompt to exactly the token ids that the model sees, with the content tokens known.

Everything is known by construction: a chat template is rendered once more with sentinels in place
of the messages' contents, which shows the literal pieces between them; the place of each content
in the real rendering is then arithmetic on lengths, never a search (METHOD 4b).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from dspa_nn.errors import DSPAWarning, TripleError
from dspa_nn.rendered import Rendered
from dspa_nn.templates import (
    PLAIN_TEMPLATE,
    chat_template,
    content_spans,
    overlaps,
    piecewise,
)
from dspa_nn.triples import Message, PreferenceTriple, Prompt, Text, as_messages

if TYPE_CHECKING:
    Renderable = Prompt | Rendered
else:
    Renderable = object


def render(tokenizer: Any, prompt: Renderable, response: Text | None = None) -> Rendered:
    """Render a prompt, and a response joined to it, into exactly what the model sees.

    ```python
    tokenizer = AutoTokenizer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
    prompt = render(tokenizer, [{"role": "user", "content": "Hello"}])
    both = [render(tokenizer, prompt, text) for text in ("Hi!", "What?")]   # one prompt, two ends
    ```

    A string is tokenised once with the default special tokens. A message list goes through the
    chat template up to and including the generation header (`enable_thinking=False` where the
    template knows it), tokenised once, with no special tokens but those that the template writes;
    without a template, through `templates.PLAIN_TEMPLATE`, tokenised as a string is. The response
    is its own text's tokens, with no BOS and no EOS, joined to the prompt's ids. A prompt token is
    content if it overlaps a content's characters by at least one: a token across the border counts
    (METHOD 4b).

    Args:
        tokenizer: of the transformers kind, fast or slow.
        prompt: a string, a list of messages, or what `render` returned for one.
        response: text to join, or None.

    Raises:
        TripleError: a prompt that is neither, messages that the template refuses, drops or
            rewrites, an empty response, or a slow tokenizer whose tokens run across a border.
    """
    if isinstance(prompt, Rendered):
        rendered = prompt
    elif isinstance(prompt, str):
        rendered = _render_string(tokenizer, prompt)
    else:
        rendered = _render_messages(tokenizer, as_messages(prompt))
    return rendered if response is None else _join(tokenizer, rendered, response)


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
    ids = torch.tensor(tokenizer(response, add_special_tokens=False).input_ids, dtype=torch.int64)
    if not len(ids):
        raise TripleError(
            f"the response {response!r} has no tokens, where at least one was expected: "
            "give some text"
        )
    return Rendered(
        text=prompt.text + response,
        ids=torch.cat([prompt.ids, ids]),
        prompt_length=prompt.prompt_length,
        content=prompt.content,
        has_bos=prompt.has_bos,
        pieces=(*prompt.pieces, ("response", prompt.prompt_length, response)),
    )


def _render_string(tokenizer: Any, prompt: str) -> Rendered:
    encoded = tokenizer(prompt, return_special_tokens_mask=True)
    ids = encoded.input_ids
    before, after = _added(tokenizer, ids, encoded.special_tokens_mask)
    if before and ids[:2] == [tokenizer.bos_token_id] * 2:
        warnings.warn(
            f"the string prompt begins with {tokenizer.bos_token!r} and the tokenizer adds one "
            "more, so that the model sees it twice: leave it out of the text",
            DSPAWarning,
            stacklevel=3,
        )
    return _rendered(tokenizer, "".join([*before, prompt, *after]), ids, [True] * len(ids))


def _render_messages(tokenizer: Any, messages: tuple[Message, ...]) -> Rendered:
    template = chat_template(tokenizer)
    text, spans = content_spans(tokenizer, template, messages)
    special = template == PLAIN_TEMPLATE
    encoded = tokenizer(
        text,
        add_special_tokens=special,
        return_special_tokens_mask=True,
        return_offsets_mapping=tokenizer.is_fast,
    )
    ids = encoded.input_ids
    before, after = _added(tokenizer, ids, encoded.special_tokens_mask) if special else ([], [])
    if tokenizer.is_fast:
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
    kinds = ["content" if own else "markup" for own in content]
    if has_bos:
        kinds[0] = "bos"
    pieces, start = [], 0
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


How = Literal["truncate", "skip", "error"]


@dataclass(frozen=True, eq=False)
class Truncated:
    """A triple or prompt that fits the model's context, or None in its place.

    Attributes:
        item: what came, shortened where that was needed; None where it is skipped.
        dropped: how many of its messages were dropped.
        rendered: the renderings of `item`: of its prompt, and for a triple of prompt + chosen and
            prompt + rejected; empty where it is skipped.
    """

    item: Any
    dropped: int
    rendered: tuple[Rendered, ...]


def truncate_messages(
    tokenizer: Any, item: "PreferenceTriple | Prompt", limit: int, how: How
) -> Truncated:
    """Fit a triple (with its longer response) or a prompt alone into `limit` tokens.

    ```python
    fitted = truncate_messages(tokenizer, triple, model.config.max_position_embeddings, "truncate")
    prompt, chosen, rejected = fitted.rendered      # unless fitted.item is None
    ```

    With "truncate" the oldest messages are dropped whole until the rest fits. A leading system
    message and the last message stay, and the rest still opens with the role that it opened with
    (templates that want user and assistant in turn refuse it otherwise). What has no such border
    to be cut at, as a string prompt, is skipped.

    Args:
        tokenizer: of the transformers kind.
        item: a triple, a string, or a list of messages.
        limit: most tokens of prompt and response together.
        how: what to do with what is longer: "truncate", "skip" or "error".

    Raises:
        TripleError: too long with how="error"; a `how` or a limit that is none; what `render`
            refuses.
    """
    if how not in get_args(How):
        raise TripleError(
            f"how={how!r} came, where 'truncate', 'skip' or 'error' was expected: give one of them"
        )
    if limit < 1:
        raise TripleError(
            f"a limit of {limit} tokens came, where at least 1 was expected: "
            "give the length of the model's context"
        )
    rendered = _render_item(tokenizer, item)
    length = max(len(part.ids) for part in rendered)
    if length <= limit:
        return Truncated(item, 0, rendered)
    if how == "error":
        prompt = rendered[0].prompt_length
        rest = length - prompt
        raise TripleError(
            f"a prompt of {prompt} tokens with a response of {rest} came, where {limit} together "
            "were expected at most: ask for how='truncate' or how='skip', or shorten it"
        )
    shorter = _shortened(item) if how == "truncate" else []
    for dropped, candidate in shorter:
        rendered = _render_item(tokenizer, candidate)
        if max(len(part.ids) for part in rendered) <= limit:
            return Truncated(candidate, dropped, rendered)
    return Truncated(None, 0, ())


def _render_item(tokenizer: Any, item: "PreferenceTriple | Prompt") -> tuple[Rendered, ...]:
    if not isinstance(item, PreferenceTriple):
        return (render(tokenizer, item),)
    prompt = render(tokenizer, item.prompt)
    return prompt, _join(tokenizer, prompt, item.chosen), _join(tokenizer, prompt, item.rejected)


def _shortened(item: "PreferenceTriple | Prompt") -> Iterator[tuple[int, Any]]:
    """Yield ever shorter versions, each with the number of messages that it lacks."""
    prompt = item.prompt if isinstance(item, PreferenceTriple) else item
    if isinstance(prompt, str):
        return
    messages = as_messages(prompt)
    system = 1 if messages[0]["role"] == "system" else 0
    head, body = messages[:system], messages[system:]
    for dropped in range(1, len(body)):
        if body[dropped]["role"] == body[0]["role"]:
            rest = head + body[dropped:]
            triple = isinstance(item, PreferenceTriple)
            yield dropped, replace(item, prompt=rest) if triple else rest
