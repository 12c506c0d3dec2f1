"""Prompts longer than the model's context: cut at a message boundary, left out, or refused."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

from dspa_nn.errors import TripleError
from dspa_nn.prompts.rendering import render
from dspa_nn.triples import PreferenceTriple, as_messages

How = Literal["truncate", "skip", "error"]

TRUNCATED = "prompt truncated to the context"
SKIPPED = "longer than the context"


def fit_to_context(
    tokenizer: Any, item: Any, limit: int, how: str
) -> tuple[Any | None, str | None]:
    """Fit a triple (with its longer response), or a prompt alone, into `limit` tokens.

    ```python
    triple, reason = fit_to_context(tokenizer, triple, 8192, "truncate")
    ```

    With "truncate" the oldest messages are dropped whole until the rest fits. A leading system
    message and the last message stay, and the rest still opens with the role that it opened with
    (templates that want user and assistant in turn would refuse it otherwise). What has no such
    border to be cut at, as a string prompt, is skipped.

    Args:
        tokenizer: of the transformers kind.
        item: a triple, a string, or a list of messages.
        limit: most tokens of prompt and response together, BOS included.
        how: what to do with what is longer: "truncate", "skip" or "error".

    Returns:
        What fits, or None where it is skipped; and why it is not what came (`TRUNCATED` or
        `SKIPPED`, to be counted), or None where it is.

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
    prompt, response = _lengths(tokenizer, item)
    if prompt + response <= limit:
        return item, None
    if how == "error":
        raise TripleError(
            f"a prompt of {prompt} tokens with a response of {response} came, where {limit} "
            "together were expected at most: choose 'truncate' or 'skip', or shorten it"
        )
    for shorter in _shortened(item) if how == "truncate" else ():
        if sum(_lengths(tokenizer, shorter)) <= limit:
            return shorter, TRUNCATED
    return None, SKIPPED


def _lengths(tokenizer: Any, item: Any) -> tuple[int, int]:
    """Return the tokens of the prompt and of the longer response."""
    if not isinstance(item, PreferenceTriple):
        return render(tokenizer, item).prompt_length, 0
    prompt = render(tokenizer, item.prompt)
    ends = (render(tokenizer, prompt, text) for text in (item.chosen, item.rejected))
    return prompt.prompt_length, max(len(end.response_ids) for end in ends)


def _shortened(item: Any) -> Iterator[Any]:
    """Yield ever shorter versions of a triple or prompt, none where it is a string."""
    prompt = item.prompt if isinstance(item, PreferenceTriple) else item
    if isinstance(prompt, str):
        return
    messages = as_messages(prompt)
    system = 1 if messages[0]["role"] == "system" else 0
    head, body = messages[:system], messages[system:]
    for start in range(1, len(body)):
        if body[start]["role"] == body[0]["role"]:
            rest = head + body[start:]
            yield replace(item, prompt=rest) if isinstance(item, PreferenceTriple) else rest
