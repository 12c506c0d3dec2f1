"""What a request may say: fields of the API that are honoured, our own, and what is refused."""

import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dspa_nn.checks import LEAST_TEMPERATURE
from dspa_nn.errors import ServingError
from dspa_nn.graph.settings import MOST_ALPHA, PLAN_SETTINGS
from dspa_nn.graph.spelling import did_you_mean

# Fields of the API that are not supported, and the values with which they ask for nothing; null
# asks for nothing in each of them.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
# Names that the caller gives itself, which change no answer.
LABELS = ("prompt_cache_key", "safety_identifier", "user")
# Fields of a message that a client sends back with an earlier answer, empty ones.
_EMPTY = ("annotations", "audio", "function_call", "name", "refusal", "tool_calls")
_LIMIT = 2**63
# Fields that an unsteered answer has no use for.
OF_STEERING = ("map", *PLAN_SETTINGS, "percentile", "unsteered_too", "plan", "edits")


class _Strict(BaseModel):
    """Unknown fields are errors, and a value of another type is not converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    # lm-evaluation-harness marks its messages so.
    type: Literal["text"] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """What a stream holds besides the text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatRequest(_Strict):
    """A chat completion that is asked for.

    Example:
        >>> body = {"model": "warm", "messages": [{"role": "user", "content": "Hello"}]}
        >>> read_request(body | {"alpha": 0.5}).alpha
        0.5

    `messages`, `temperature`, `top_p`, `max_tokens`, `max_completion_tokens`, `stop`, `seed`,
    `stream` and `stream_options` are as in the API; `alpha`, `mode`, `prompt_rule`, `k_prompt` and
    `k_diff` are settings of the steered run, and what is left out is the map's, else the preset's,
    else the paper's.

    Attributes:
        model: a map's name, or "unsteered".
        map: a map's name, in place of the one that `model` names.
        percentile: that which the map was fitted with, which a request cannot change.
        unsteered: whether to leave the answer unsteered, whatever `model` names.
        unsteered_too: whether the unsteered answer comes with the steered one.
        plan: whether the steered answer tells what was planned.
        edits: whether the steered answer tells each edit.
    """

    messages: Annotated[list[Message], Field(min_length=1)]
    model: str
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    stop: str | list[str] | None = None
    seed: Annotated[int | None, Field(ge=-_LIMIT, lt=_LIMIT)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    map: str | None = None
    alpha: Annotated[float | None, Field(le=MOST_ALPHA)] = None
    mode: str | None = None
    prompt_rule: str | None = None
    k_prompt: int | None = None
    k_diff: int | None = None
    percentile: float | None = None
    unsteered: bool | None = None
    unsteered_too: bool | None = None
    plan: bool | None = None
    edits: bool | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def streams(self) -> bool:
        """Whether the answer is sent as it comes."""
        return bool(self.stream)

    def for_each_answer(self) -> "list[ChatRequest]":
        """The request, and the same one unsteered where both answers are asked for.

        Both have the same seed, which is drawn here where the request names none.
        """
        if not self.unsteered_too:
            return [self]
        seed = secrets.randbits(63) if self.seed is None else self.seed
        changes: list[dict[str, Any]] = [{}, dict.fromkeys(OF_STEERING) | {"unsteered": True}]
        return [self.model_copy(update=change | {"seed": seed}) for change in changes]

    @property
    def of_steering(self) -> list[str]:
        """The fields of `OF_STEERING` that came, and ask for something."""
        given = {name: getattr(self, name) for name in OF_STEERING}
        return [name for name, value in given.items() if value is not None and value is not False]


KNOWN = tuple(ChatRequest.model_fields)


def read_request(body: object) -> ChatRequest:
    """Read the body of a request.

    Example:
        >>> read_request({"model": "warm", "messages": [], "n": 2})
        Traceback (most recent call last):
        dspa_nn.errors.ServingError: n is 2, and this server supports it as 1 alone; leave it out

    Raises:
        ServingError: in one sentence, with the field that is at fault in `param`.
    """
    if not isinstance(body, Mapping):
        raise ServingError(
            f"the body is of type {type(body).__name__}; expected a JSON object with model and "
            "messages"
        )
    given = dict(cast(Mapping[str, Any], body))
    for name, neutral in NEUTRAL.items():
        value = given.pop(name, None)
        if value is not None and not any(_equal(value, one) for one in neutral):
            raise _unsupported(name, value, neutral)
    for name in LABELS:
        label = given.pop(name, None)
        if label is not None and not isinstance(label, str):
            raise ServingError(f"{name} is {_shown(label)}; expected a valid string", param=name)
    messages: Any = given.get("messages")
    if isinstance(messages, list):
        given["messages"] = [_without_empty(message) for message in cast(list[Any], messages)]
    unknown = sorted(set(given).difference(KNOWN))
    if unknown:
        raise ServingError(
            f"{unknown[0]} is no field of this API{did_you_mean(unknown[0], KNOWN)}; leave it out",
            param=unknown[0],
            code="unknown_parameter",
        )
    try:
        request = ChatRequest.model_validate(given)
    except ValidationError as error:
        raise _refused(error) from None
    for name, value in (("temperature", request.temperature), ("top_p", request.top_p)):
        least = LEAST_TEMPERATURE  # of top_p too
        if value and value < least:
            raise ServingError(
                f"{name} is {value}; expected at least {least}, or temperature=0, which takes the "
                "likeliest token",
                param=name,
            )
    _check_together(request)
    return request


def _check_together(request: ChatRequest) -> None:
    both = request.max_tokens, request.max_completion_tokens
    if None not in both and both[0] != both[1]:
        raise ServingError(
            f"max_tokens is {both[0]} and max_completion_tokens {both[1]}; give one of them",
            param="max_tokens",
        )
    if "" in request.stops:
        raise ServingError(
            "stop holds an empty string, with which every answer would end; leave it out",
            param="stop",
        )
    if request.stream_options is not None and not request.stream:
        raise ServingError(
            "stream_options came without stream=true; leave it out", param="stream_options"
        )
    if request.unsteered and (useless := request.of_steering):
        raise ServingError(
            f"{useless[0]} came with unsteered=true, which has no use for it; leave one of them "
            "out",
            param=useless[0],
        )


def _equal(value: object, neutral: object) -> bool:
    """Whether two values are the same JSON: true is not 1, but 1.0 is 1."""
    if isinstance(value, bool) or isinstance(neutral, bool):
        return value is neutral
    return value == neutral


def _unsupported(name: str, value: object, neutral: tuple[object, ...]) -> ServingError:
    said = f"{name} is {_shown(value)}, and this server "
    allowed = [json.dumps(one) for one in neutral]
    supports = f"supports it as {' or '.join(allowed)} alone" if allowed else "does not support it"
    return ServingError(f"{said}{supports}; leave it out", param=name, code="unsupported_parameter")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _without_empty(message: object) -> object:
    if not isinstance(message, Mapping):
        return message
    return {
        name: value
        for name, value in cast(Mapping[str, Any], message).items()
        if name not in _EMPTY or (value is not None and value != [])
    }


def _refused(error: ValidationError) -> ServingError:
    """The first thing that pydantic found, as one sentence with the path of the field."""
    # Of a union every member complains; who got deepest knows best, or else one whose type fits.
    found = max(error.errors(), key=lambda one: (len(one["loc"]), one["type"] == "too_short"))
    first = error.errors()[0]
    found = found if found["loc"][:1] == first["loc"][:1] else first
    inside = [part for part in found["loc"] if not _names_a_type(part)]
    path = ".".join(map(str, inside))
    if found["type"] == "missing":
        return ServingError(f"{path} is missing; give it", param=path)
    if found["type"] == "too_short":
        return ServingError(f"{path} is an empty list; give at least one", param=path)
    if found["type"] == "extra_forbidden":
        return ServingError(
            f"{path} is no field of this API; leave it out", param=path, code="unknown_parameter"
        )
    expected = found["msg"].removeprefix("Input should be ")
    if found["type"] == "model_type":
        expected = "an object"  # pydantic names the class
    if found["type"].startswith(("less", "greater")):
        expected = f"a number {expected}"
    return ServingError(f"{path} is {_shown(found['input'])}; expected {expected}", param=path)


def _names_a_type(part: object) -> bool:
    """Whether a part of pydantic's path is a member of a union, not a field or an index."""
    return isinstance(part, str) and (part == "str" or part.startswith(("list[", "function-")))
