"""The body of an HTTP request, read up to a limit, as JSON whose objects name a field once."""

import json
from typing import TYPE_CHECKING, Any

from dspa_nn.errors import ServingError

if TYPE_CHECKING:
    from fastapi import Request

# A conversation is text; more than this is a mistake.
LARGEST_BODY = 8 << 20


async def read_body(request: "Request") -> object:
    """The JSON of a body that is small enough.

    Raises:
        ServingError: too large, cut off, or no JSON.
    """
    from starlette.requests import ClientDisconnect

    size = request.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > LARGEST_BODY:
        raise _too_large(size)
    # A body in chunks comes without its size. What is left of one that is too large is not read
    # here; the HTTP server discards it.
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_BODY:
                raise _too_large(f"more than {LARGEST_BODY}")
    except ClientDisconnect:
        raise ServingError("the client went away before its body was whole", status=499) from None
    try:
        return json.loads(body, object_pairs_hook=_once_each)
    except RecursionError:
        raise ServingError("the body is nested too deep; send a conversation") from None
    except ValueError as error:
        raise ServingError(f"the body is not JSON ({error}); send a JSON object") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that names a field twice is refused, since one of both would be ignored.

    >>> _once_each([("alpha", 0.2), ("mode", "both")])
    {'alpha': 0.2, 'mode': 'both'}
    """
    named: dict[str, Any] = {}
    for name, value in pairs:
        if name in named:
            raise ServingError(
                f"{name} stands twice in one object of the body; give it once", param=name
            )
        named[name] = value
    return named


def _too_large(size: str) -> ServingError:
    return ServingError(
        f"the body has {size} bytes; expected at most {LARGEST_BODY}, so send a shorter "
        "conversation",
        status=413,
        code="body_too_large",
    )
