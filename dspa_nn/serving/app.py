"""The API over HTTP: routes, server-sent events, and errors in the API's shape."""

import hmac
import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from dspa_nn._version import __version__
from dspa_nn.errors import DSPAError, ServingError
from dspa_nn.imports import late, without_nnsight_save
from dspa_nn.serving.answer import Done, Piece
from dspa_nn.serving.bodies import read_body
from dspa_nn.serving.coming import Coming, Gone, submitted, usage_of
from dspa_nn.serving.engine import Engine, stop_error
from dspa_nn.serving.request import ChatRequest, read_request

try:
    late("anyio")
    with without_nnsight_save():
        from fastapi import Depends, FastAPI, Request, Response
        from fastapi.responses import JSONResponse, StreamingResponse
        from starlette.exceptions import HTTPException
except ImportError as error:
    raise ServingError(
        f"serving needs a library that is not installed ({error}): pip install 'dspa-nn[serve]'"
    ) from error

_OPEN = ("/health",)


def make_app(engine: Engine, key: str | None = None) -> FastAPI:
    """Make the web application of an engine, for uvicorn or any other ASGI server.

    Example:
        >>> engine = Engine(dspa, {"warm": map})
        >>> sorted(route.path for route in make_app(engine).routes if "v1" in route.path)
        ['/v1/chat/completions', '/v1/models', '/v1/models/{name:path}']
        >>> engine.close()

    Args:
        engine: what answers; whoever made it closes it.
        key: what every request but /health must bring as a bearer token; None asks for none.
    """

    async def guard(request: Request) -> None:
        if key is not None and request.url.path not in _OPEN and not _knows(request, key):
            raise ServingError(
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
            )

    app = FastAPI(
        title="dspa serve", version=__version__, openapi_url=None, dependencies=[Depends(guard)]
    )

    @app.exception_handler(DSPAError)
    async def refused(request: Request, error: Exception) -> Response:
        del request
        return _error(error if isinstance(error, ServingError) else ServingError(str(error)))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        del request
        return _error(
            ServingError(
                f"the server could not answer ({type(error).__name__}); see its log",
                status=500,
                code="internal_error",
            )
        )

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, problem: Exception) -> Response:
        what = f"{request.method} {request.url.path}"
        known = isinstance(problem, HTTPException)
        answer = _error(
            ServingError(
                f"{what} is not of this API; it has POST /v1/chat/completions, GET /v1/models and "
                "GET /health",
                status=problem.status_code if known else 404,
                code="not_found",
            )
        )
        answer.headers.update((problem.headers if known else None) or {})  # "Allow", of a 405
        return answer

    @app.get("/health")
    async def health() -> dict[str, Any]:
        if engine.stopping:
            raise stop_error()
        return {"status": "ok", **engine.load}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(engine, name) for name in engine.names]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name not in engine.names:
            raise ServingError(
                f"model is {name!r}, and this server has {', '.join(engine.names)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return JSONResponse(_model(engine, name))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked = read_request(await read_body(request))
        coming = await submitted(engine, asked)
        about = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
        }
        if asked.streams:
            return _Streamed(asked, coming, about)
        return await _whole(request, coming, about)

    # The routes are known to the application by now.
    del refused, failed, no_such_page, health, models, model, chat
    return app


async def _whole(request: Request, coming: Coming, about: dict[str, Any]) -> Response:
    """Wait for the whole answer, for as long as the client does."""
    try:
        async for _ in coming.each(request):
            pass
    except ServingError as error:
        return _error(error)
    except Gone:
        return Response(status_code=499)
    finally:
        coming.cancel()
    end = coming.ends[0]
    message = {"role": "assistant", "content": coming.texts[0], "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}
    body = {"object": "chat.completion", "choices": [choice], "usage": usage_of(end)}
    return JSONResponse(about | body | coming.told())


class _Streamed(StreamingResponse):
    """The answer as server-sent events; when it ends or the client goes, so does the answer.

    The client may go before the first event is asked for, and so before `_stream` has begun.
    """

    def __init__(self, asked: ChatRequest, coming: Coming, about: dict[str, Any]) -> None:
        super().__init__(_stream(asked, coming, about), media_type="text/event-stream")
        self._coming = coming

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, as an ASGI application."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._coming.cancel()


async def _stream(asked: ChatRequest, coming: Coming, about: dict[str, Any]) -> AsyncGenerator[str]:
    usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)

    def chunk(
        delta: dict[str, Any], reason: str | None = None, told: Mapping[str, object] | None = None
    ) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        body = {**about, "object": "chat.completion.chunk", "choices": [choice], **(told or {})}
        return _sent(body | ({"usage": None} if usage else {}))

    alone = len(coming.answers) == 1
    try:
        yield chunk({"role": "assistant", "content": ""})
        async for place, event in coming.each():
            if place == 0 and isinstance(event, Piece):
                yield chunk({"content": event.text})
            elif place == 0 and isinstance(event, Done):
                yield chunk({}, event.reason, coming.told() if alone else None)
        if not alone:
            yield chunk({}, told=coming.told())
        if usage:
            last: dict[str, Any] = {"object": "chat.completion.chunk", "choices": []}
            yield _sent(about | last | {"usage": usage_of(coming.ends[0])})
        yield "data: [DONE]\n\n"
    except ServingError as error:
        yield _sent(_shape(error))


def _knows(request: Request, key: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Both as the bytes that came.
    same = hmac.compare_digest(given.encode("latin-1"), key.encode(errors="surrogateescape"))
    return same and scheme.lower() == "bearer"


def _model(engine: Engine, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": engine.created, "owned_by": "dspa-nn"}


def _shape(error: ServingError) -> dict[str, Any]:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": _encodable(str(error)),
            "type": kind,
            "param": None if error.param is None else _encodable(error.param),
            "code": error.code,
        }
    }


def _encodable(text: str) -> str:
    """The text with half surrogate pairs, which a request may hold, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _error(error: ServingError) -> Response:
    return JSONResponse(_shape(error), status_code=error.status)


def _sent(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
