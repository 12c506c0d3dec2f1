"""Inspect's requests as ours: messages and settings, honoured or refused in one sentence.

Nothing here imports inspect_ai, which wants an older fsspec than this package's environment has.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from dspa_nn.checks import check_temperature
from dspa_nn.errors import EvaluationError
from dspa_nn.harness.chat_requests import MAX_TOKENS, Sampling

# Of Inspect's GenerateConfig: what is honoured here, and what Inspect itself does with a request.
HONOURED = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop_seqs")
BY_INSPECT = (
    "max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections",
    "adaptive_connections", "system_message", "cache", "max_tool_output", "fallback_models",
    "fail_on_refusal",
)  # fmt: skip

# Whether it is a whole number, and from where to where it goes.
_LIMITS: dict[str, tuple[bool, float | int, float | int]] = {
    "max_tokens": (True, 1, inf),
    "temperature": (False, 0, inf),
    "top_p": (False, 1e-6, 1),
    "top_k": (True, 0, inf),
    "seed": (True, 0, 2**63 - 1),
}


def sampling_from(config: Any) -> Sampling:
    """The settings of a request; what is neither honoured nor Inspect's own business is refused.

    Example:
        >>> sampling_from({"max_tokens": 8, "temperature": 0.7, "seed": 1}).temperature
        0.7
        >>> sampling_from({"logprobs": True})
        Traceback (most recent call last):
        dspa_nn.errors.EvaluationError: logprobs=True came, which the provider dspa does not have; \
leave it out, or use max_tokens, temperature, top_p, top_k, seed, stop_seqs

    Args:
        config: Inspect's `GenerateConfig`, or a mapping of its fields.

    Raises:
        EvaluationError: a setting that is not honoured, or one out of range.
    """
    given: dict[str, Any] = {**(config if isinstance(config, Mapping) else config.model_dump())}
    # One answer and no tools is what is given anyway.
    off = {"num_choices": (None, 1), "parallel_tool_calls": (None, False, True)}
    for name, value in given.items():
        if value is None or name in HONOURED or name in BY_INSPECT or value in off.get(name, ()):
            continue
        raise EvaluationError(
            f"{name}={value!r} came, which the provider dspa does not have; leave it out, or use "
            f"{', '.join(HONOURED)}"
        )
    for name, limits in _LIMITS.items():
        _check(name, given.get(name), *limits)
    check_temperature(given.get("temperature") or 0, EvaluationError)
    tokens = given.get("max_tokens")
    return Sampling(
        MAX_TOKENS if tokens is None else int(tokens),
        given.get("temperature"),
        given.get("top_p"),
        given.get("top_k"),
        given.get("seed"),
        tuple(given.get("stop_seqs") or ()),
    )


def _check(name: str, value: Any, whole: bool, low: float | int, high: float | int) -> None:
    if value is None:
        return
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not fits or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        above = f"of at least {low}" if high == inf else f"from {low} to {high}"
        raise EvaluationError(f"{name} is {value!r}; expected {kind} {above}")


def messages_from(input: Iterable[Any], tools: Sequence[Any] = ()) -> list[dict[str, str]]:
    """The messages of a request, as chat messages; tools and pictures are refused.

    Example:
        >>> from types import SimpleNamespace
        >>> said = SimpleNamespace(role="user", content="Hello")
        >>> messages_from([said])
        [{'role': 'user', 'content': 'Hello'}]

    Args:
        input: Inspect's messages: `role`, and `content` that is text or a list of parts.
        tools: those that the request offers.

    Raises:
        EvaluationError: tools, a message of one, or content that is no text.
    """
    if len(tools):
        raise EvaluationError(
            f"the request offers {len(tools)} tools, and the provider dspa calls none; use a "
            "solver without tools"
        )
    messages: list[dict[str, str]] = []
    for message in input:
        if message.role not in ("system", "user", "assistant"):
            raise EvaluationError(
                f"a message of the role {message.role!r} came; the provider dspa takes system, "
                "user and assistant"
            )
        parts = [message.content] if isinstance(message.content, str) else message.content
        texts = [part if isinstance(part, str) else _text_of(part) for part in parts]
        messages.append({"role": message.role, "content": "\n".join(texts)})
    return messages


def _text_of(part: Any) -> str:
    kind = getattr(part, "type", type(part).__name__)
    if kind != "text":
        raise EvaluationError(
            f"a message holds content of the type {kind}, and the provider dspa reads text alone"
        )
    return str(part.text)
