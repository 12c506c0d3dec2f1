"""Prompts longer than the model's context: cut at a message boundary, left out, or refused."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from dspa_nn.errors import TripleError
from dspa_nn.prompts.rendered import Rendered
from dspa_nn.prompts.rendering import join, render_quietly
from dspa_nn.triples import PreferenceTriple, Prompt, as_messages

Overlong: TypeAlias = Literal["truncate", "skip", "error"]

TRUNCATED = "prompt truncated to the context"
SKIPPED = "longer than the context"


class TooLongError(TripleError):
    """A prompt that does not fit the context, where it was to be refused."""


class Fitted(NamedTuple):
    """What fits into the context, with the renderings that showed it.

    >>> fitted = render_to_fit(tokenizer, triples[0], 8192, "truncate")
    >>> fitted.item == triples[0], len(fitted.ends), fitted.reason
    (True, 2, None)

    Attributes:
        item: the triple or prompt, shortened or not; None where it is skipped.
        reason: why `item` is not what came (`TRUNCATED` or `SKIPPED`); None where it is.
        prompt: the item's prompt, rendered; None where it is skipped.
        ends: of a triple, prompt with chosen and prompt with rejected response; else empty.
    """

    item: PreferenceTriple | Prompt | None
    reason: str | None
    prompt: Rendered | None
    ends: tuple[Rendered, ...]


def fit_to_context(
    tokenizer: Any, item: PreferenceTriple | Prompt, limit: int, how: Overlong
) -> tuple[PreferenceTriple | Prompt | None, str | None]:
    """Fit a triple (with its longer response), or a prompt alone, into `limit` tokens.

    >>> messages = [{"role": role, "content": "Hello"} for role in ("user", "assistant", "user")]
    >>> shorter, reason = fit_to_context(tokenizer, messages, 60, "truncate")
    >>> len(shorter), reason
    (1, 'prompt truncated to the context')

    The first two fields of `render_to_fit`, which is what to call where the renderings are needed.
    """
    fitted = render_to_fit(tokenizer, item, limit, how)
    return fitted.item, fitted.reason


def render_to_fit(
    tokenizer: Any, item: PreferenceTriple | Prompt, limit: int, how: Overlong
) -> Fitted:
    """Render a triple, or a prompt alone, so that it fits into `limit` tokens.

    >>> render_to_fit(tokenizer, "far too long", 5, "truncate").reason
    'longer than the context'

    With "truncate" the oldest messages are dropped whole until the rest fits. A leading system
    message and the last message stay, and the rest still opens with the role that it opened with
    (templates that want user and assistant in turn would refuse it otherwise). What has no such
    border to be cut at, as a string prompt, is skipped. Prompt and responses are tokenised once,
    and a shortened prompt once more.

    Args:
        tokenizer: of the transformers kind.
        item: a triple, a string, or a list of messages.
        limit: most tokens of prompt and longer response together, BOS included.
        how: what to do with what is longer: "truncate", "skip" or "error".

    Raises:
        TripleError: too long with how="error"; a `how` or a limit that is none; what `render`
            refuses.
    """
    given = cast(Any, how)  # whatever a user passed
    if not isinstance(given, str) or how not in get_args(Overlong):
        raise TripleError(
            f"how={how!r} came, where 'truncate', 'skip' or 'error' was expected: give one of them"
        )
    if limit < 1:
        raise TripleError(
            f"a limit of {limit} tokens came, where at least 1 was expected: "
            "give the length of the model's context"
        )
    prompt = render_quietly(tokenizer, _prompt_of(item))
    texts = (item.chosen, item.rejected) if isinstance(item, PreferenceTriple) else ()
    ends = tuple(render_quietly(tokenizer, prompt, text) for text in texts)
    response = max((len(end.response_ids) for end in ends), default=0)
    if prompt.prompt_length + response <= limit:
        return Fitted(item, None, prompt, ends)
    if how == "error":
        raise TooLongError(
            f"a prompt of {prompt.prompt_length} tokens with a response of {response} came, where "
            f"{limit} together were expected at most: choose 'truncate' or 'skip', or shorten it"
        )
    for shorter in _shortened(item) if how == "truncate" else ():
        prompt = render_quietly(tokenizer, _prompt_of(shorter))
        if prompt.prompt_length + response <= limit:
            ends = tuple(
                join(prompt, text, end.response_ids) for text, end in zip(texts, ends, strict=True)
            )
            return Fitted(shorter, TRUNCATED, prompt, ends)
    return Fitted(None, SKIPPED, None, ())


def _prompt_of(item: PreferenceTriple | Prompt) -> Prompt:
    return item.prompt if isinstance(item, PreferenceTriple) else item


def _shortened(item: PreferenceTriple | Prompt) -> Iterator[PreferenceTriple | Prompt]:
    """Yield ever shorter versions of a triple or prompt, none where it is a string."""
    prompt = _prompt_of(item)
    if isinstance(prompt, str):
        return
    messages = as_messages(prompt)
    system = 1 if messages[0]["role"] == "system" else 0
    head, body = messages[:system], messages[system:]
    for start in range(1, len(body)):
        if body[start]["role"] == body[0]["role"]:
            rest = head + body[start:]
            yield replace(item, prompt=rest) if isinstance(item, PreferenceTriple) else rest
