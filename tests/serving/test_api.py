"""The API over HTTP, as the `openai` client and plain requests see it."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
from starlette.requests import ClientDisconnect

from dspa_nn.graph.rules import Rule
from dspa_nn.serving import Engine, make_app, read_request
from tests import serve_zoo
from tests.serving.test_engine import Slow, until

HELLO: dict[str, Any] = {
    "model": "warm",
    "messages": [{"role": "user", "content": "tea sea"}],
    "temperature": 0,
    "max_tokens": 5,
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = serve_zoo.engine(window=0.02)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with serve_zoo.running(engine) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def text_of(answer: Any) -> str:
    return answer.choices[0].message.content


def unsteered_of(answer: Any) -> str:
    return (getattr(answer, "dspa", None) or {}).get("unsteered", {}).get("content", "")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["warm", "cold", "both", "unsteered"]
    assert client.models.retrieve("cold").owned_by == "dspa-nn"
    with pytest.raises(openai.NotFoundError, match="model is 'hot', and this server has warm"):
        client.models.retrieve("hot")


def test_an_answer_and_a_stream_are_the_same(client: openai.OpenAI) -> None:
    extra = {"alpha": 0.5, "plan": True, "edits": True}
    answer: Any = client.chat.completions.create(**HELLO, extra_body=extra)
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"
    stream: Any = client.chat.completions.create(
        **HELLO, extra_body=extra, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == text_of(answer)
    assert len([piece for piece in said if piece]) == 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == answer.usage
    last = chunks[-2]
    assert last.choices[0].finish_reason == "length"
    assert last.dspa == answer.dspa
    assert answer.dspa["settings"]["alpha"] == 0.5
    assert answer.dspa["plan"]["ablate"]
    assert set(answer.dspa["edits"][0]) == {
        "position", "token_id", "latent", "before", "after", "strongest", "token", "direction",
    }  # fmt: skip


def test_steering_is_by_request(client: openai.OpenAI) -> None:
    def said(**changes: Any) -> str:
        asked: dict[str, Any] = HELLO | {"max_tokens": 8}
        return text_of(client.chat.completions.create(**(asked | changes)))

    plain = said(model="unsteered")
    strong = {"alpha": 2.0, "mode": "both"}
    assert said(extra_body={"unsteered": True}) == plain
    assert said(extra_body={"alpha": 0}) == plain
    assert said(extra_body=strong) != plain
    assert said(model="unsteered", extra_body={"map": "warm", **strong}) == said(extra_body=strong)
    assert said(extra_body={"map": "cold", **strong}) == said(model="cold", extra_body=strong)
    developer = [{"role": "developer", "content": "Be brief."}, *HELLO["messages"]]
    system = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]
    assert said(messages=developer) == said(messages=system + HELLO["messages"])


def test_the_unsteered_answer_comes_too(client: openai.OpenAI) -> None:
    strong = {"alpha": 2.0, "mode": "both"}
    drawn: dict[str, Any] = HELLO | {"max_tokens": 8, "temperature": 1, "seed": 3}

    def made(**changes: Any) -> Any:
        return client.chat.completions.create(**(drawn | changes))

    both = made(extra_body={**strong, "unsteered_too": True, "plan": True})
    assert text_of(both) == text_of(made(extra_body=strong)) != both.dspa["unsteered"]["content"]
    plain = made(model="unsteered")
    assert both.dspa["unsteered"]["content"] == text_of(plain)
    assert both.dspa["unsteered"]["usage"]["completion_tokens"] == plain.usage.completion_tokens
    assert both.dspa["plan"]["ablate"]
    *_, last = made(extra_body={**strong, "unsteered_too": True, "plan": True}, stream=True)
    assert last.dspa == both.dspa


def test_a_stream_of_both_tells_the_end_of_the_steered_answer_at_once(
    engine: Engine, client: openai.OpenAI
) -> None:
    """The steered answer ends at its stop string, and the unsteered one goes on."""
    asked: dict[str, Any] = HELLO | {"max_tokens": 40, "seed": 3}
    strong = {"alpha": 2.0, "mode": "both"}
    steered = text_of(client.chat.completions.create(**asked, extra_body=strong))
    asked["model"] = "unsteered"
    plain = text_of(client.chat.completions.create(**asked))
    asked["model"] = "warm"
    stop = next(one for one in steered if one not in plain)
    slow = Slow(engine)
    try:
        stream: Any = client.chat.completions.create(
            **asked,
            stop=stop,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={**strong, "unsteered_too": True, "plan": True},
        )
        slow.go(steered.index(stop) + 1)
        chunks: list[Any] = []
        for chunk in stream:
            chunks.append(chunk)
            if chunk.choices[0].finish_reason:
                break
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert not hasattr(chunks[-1], "dspa")
        assert engine.load["running"] == 1
        slow.go()
        last, usage = stream
    finally:
        slow.handle.remove()
        slow.go()
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == steered[: steered.index(stop)]
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == (None, None)
    assert last.dspa["plan"]["ablate"]
    assert last.dspa["unsteered"]["content"] == plain
    assert last.dspa["unsteered"]["finish_reason"] == "length"
    assert (usage.choices, usage.usage.completion_tokens) == ([], steered.index(stop) + 1)


@pytest.mark.parametrize("stream", [False, True])
def test_which_of_both_answers_failed(
    engine: Engine, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    long: dict[str, Any] = HELLO | {"max_tokens": 400}

    def asked(**extra: Any) -> Any:
        with pytest.raises(openai.APIError) as raised:
            list(
                client.chat.completions.create(
                    **long, extra_body={"unsteered_too": True, **extra}, stream=stream
                )
            )
        error: Any = raised.value
        return error

    def broken(*_: Any) -> Any:
        raise ValueError("no plan today")

    steerer = engine.ready.steerer("warm", {"alpha": 0.76})
    with monkeypatch.context() as patch:
        patch.setattr(steerer, "select", Rule("select", "broken", broken, ()))
        error = asked(alpha=0.76)
    assert "the steered answer failed: the model could not answer: the select broken" in str(error)
    assert error.code == "generation_failed"

    def no_numbers(_: Any, given: Any, logits: Any) -> None:
        if len(logits) == 2:
            logits[row] = float("nan")

    passes: list[int] = []
    output = engine._model.get_output_embeddings()
    counting = output.register_forward_hook(lambda *_: passes.append(1))
    handle = output.register_forward_hook(no_numbers)
    try:
        row, alone = 1, "without steering"
        error = asked(alpha=0.5)
        assert f"the unsteered answer failed: {alone} the model's next-token logits" in str(error)
        assert (error.code, error.type) == ("not_finite", "server_error")
        row, alone = 0, "with alpha 0.5"
        error = asked(alpha=0.5)
        assert f"the steered answer failed: {alone} the model's next-token logits" in str(error)
        assert (error.code, error.param) == ("not_finite", "alpha")
        until(lambda: engine.load["running"] == 0)  # the request has failed, and so has the other
        assert len(passes) < 400
    finally:
        handle.remove()
        counting.remove()


def test_both_answers_are_of_one_batch_and_one_seed(
    engine: Engine, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    run = engine._run
    monkeypatch.setattr(engine, "_run", lambda batch: (batches.append(len(batch)), run(batch)))
    monkeypatch.setattr(engine, "window", 0)  # whatever comes a moment later is of another batch
    drawn: dict[str, Any] = HELLO | {"max_tokens": 8, "temperature": 1}
    said: set[str] = set()
    for _ in range(3):
        both: Any = client.chat.completions.create(
            **drawn, extra_body={"alpha": 0, "unsteered_too": True}
        )
        assert text_of(both) == both.dspa["unsteered"]["content"]
        said.add(text_of(both))
    assert batches == [2, 2, 2]
    assert len(said) > 1  # a request without a seed draws one


@pytest.mark.parametrize("stream", [False, True])
def test_both_answers_are_given_up_together(engine: Engine, url: str, stream: bool) -> None:
    slow = Slow(engine)
    try:
        changes = {"unsteered_too": True, "max_tokens": 400, "stream": stream}
        body = json.dumps(HELLO | changes)
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as line:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            line.sendall(f"{head}\r\n\r\n{body}".encode())
            until(lambda: engine.load == {"waiting": 0, "running": 2})
            slow.go(2)
            until(lambda: slow.passes == 2)
        until(lambda: engine.load == {"waiting": 0, "running": 0})
    finally:
        slow.handle.remove()
        slow.go()


def test_stop_and_seed(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = HELLO | {"max_tokens": 12, "temperature": 1.0, "seed": 4}
    text = text_of(client.chat.completions.create(**asked))
    assert text_of(client.chat.completions.create(**asked)) == text
    answer = client.chat.completions.create(**asked, stop=[text[3:5], "zzz"])
    assert answer.choices[0].finish_reason == "stop"
    assert text_of(answer) == text[: text.index(text[3:5])]


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "hot"}, 404, "model", "model is 'hot', and this server has warm, cold, both, uns"),
    ({"map": "hot"}, 404, "map", "map is 'hot', and this server has warm, cold, both, unsteered"),
    ({"alpa": 1}, 400, "alpa", "alpa is no field of this API (did you mean 'alpha'?); leave it"),
    ({"alpha": -1}, 400, "alpha", "alpha is -1.0, and must be a finite number of at least 0"),
    ({"alpha": "much"}, 400, "alpha", 'alpha is "much"; expected a valid number'),
    ({"mode": "ablat"}, 400, "mode", "mode is 'ablat', and must be one of ablate, augment, both"),
    ({"k_diff": 0}, 400, "k_diff", "k_diff is 0, and must be a whole number of at least 1"),
    ({"percentile": 3}, 400, "percentile", "percentile is 3, and the map warm was fitted with 50;"),
    ({"map": "both", "percentile": 9}, 400, "percentile", "percentile is 9, and the map both was"),
    ({"unsteered": True, "unsteered_too": True}, 400, "unsteered_too", "unsteered_too came"),
    ({"model": "unsteered", "unsteered_too": True}, 400, "unsteered_too", "unsteered_too came"),
    ({"map": "unsteered", "unsteered_too": True}, 400, "unsteered_too", "unsteered_too came"),
    ({"map": "unsteered", "alpha": 1}, 400, "alpha", "alpha came with the map 'unsteered', which "),
    ({"unsteered": True, "plan": True}, 400, "plan", "plan came with unsteered=true, which has no"),
    ({"model": "unsteered", "plan": True}, 400, "plan", "plan came with the model 'unsteered', "),
    ({"map": "unsteered", "edits": True}, 400, "edits", "edits came with the map 'unsteered', wh"),
    ({"unsteered_too": 1}, 400, "unsteered_too", "unsteered_too is 1; expected a valid boolean"),
    ({"unsteered": True, "alpha": 1}, 400, "alpha", "alpha came with unsteered=true, which has no"),
    ({"model": "unsteered", "mode": "both"}, 400, "mode", "mode came with the model 'unsteered', "),
    ({"n": 2}, 400, "n", "n is 2, and this server supports it as 1 alone; leave it out"),
    ({"logprobs": True}, 400, "logprobs", "logprobs is true, and this server supports it as fal"),
    ({"tools": [{}]}, 400, "tools", "tools is [{}], and this server supports it as [] alone; le"),
    ({"temperature": 3}, 400, "temperature", "temperature is 3; expected a number less than or e"),
    ({"top_p": 0}, 400, "top_p", "top_p is 0; expected a number greater than 0"),
    ({"temperature": 1e-320}, 400, "temperature", "temperature is 1e-320; expected at least 1e-06"),
    ({"top_p": 1e-320}, 400, "top_p", "top_p is 1e-320; expected at least 1e-06, or temperature=0"),
    ({"alpha": 1e300}, 400, "alpha", "alpha is 1e+300; expected a number less than or equal to 1"),
    ({"max_tokens": 0}, 400, "max_tokens", "max_tokens is 0; expected a number greater than or "),
    ({"max_completion_tokens": 7}, 400, "max_tokens", "max_tokens is 5 and max_completion_tokens "),
    ({"max_tokens": 600}, 400, "messages", "the prompt of 27 tokens and an answer of up to 600 d"),
    ({"stop": [""]}, 400, "stop", "stop holds an empty string, with which every answer would en"),
    ({"stop": [3]}, 400, "stop.0", "stop.0 is 3; expected a valid string"),
    ({"stream_options": {}}, 400, "stream_options", "stream_options came without stream=true"),
    ({"messages": []}, 400, "messages", "messages is an empty list; give at least one"),
    ({"user": 3}, 400, "user", "user is 3; expected a valid string"),
    ({"safety_identifier": ["me"]}, 400, "safety_identifier", 'safety_identifier is ["me"]; expec'),
    ({"messages": ["Hi"]}, 400, "messages.0", 'messages.0 is "Hi"; expected an object'),
    (
        {"messages": [{"role": "user", "content": []}]}, 400, "messages.0.content",
        "messages.0.content is an empty list; give at least one",
    ),
    (
        {"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content",
        "messages.0.content is null; expected a valid string",
    ),
    ({"messages": "Hi"}, 400, "messages", 'messages is "Hi"; expected a valid list'),
    (
        {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role",
        "messages.0.role is \"tool\"; expected 'system', 'developer', 'user' or 'assistant'",
    ),
    (
        {"messages": [{"role": "user"}]}, 400, "messages.0.content",
        "messages.0.content is missing; give it",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        400, "messages.0.content.0.type", "messages.0.content.0.type is \"image_url\"; expected 't",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "status", "param", "said"), REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused(
    url: str, changes: dict[str, Any], status: int, param: str | None, said: str, stream: bool
) -> None:
    body = HELLO | ({"stream": True} if stream else {}) | changes
    if stream and "stream_options" in changes:
        return
    answer = httpx.post(f"{url}/chat/completions", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].startswith(said)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_what_asks_for_nothing_is_no_error() -> None:
    neutral = {
        "n": 1, "tools": [], "tool_choice": "auto", "logprobs": False, "top_logprobs": None,
        "presence_penalty": 0.0, "response_format": {"type": "text"}, "user": "me", "store": None,
        "parallel_tool_calls": True, "logit_bias": {}, "metadata": None,
    }  # fmt: skip
    said = {"role": "assistant", "content": "Hi", "tool_calls": None, "refusal": None}
    request = read_request(HELLO | neutral | {"messages": [*HELLO["messages"], said]})
    assert len(request.messages) == 2
    off = {"unsteered": True, "unsteered_too": False, "plan": False, "edits": None, "map": None}
    assert read_request(HELLO | off).of_steering == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "the body is not JSON ("),
        (b"[]", "the body is of type list; expected a JSON"),
        (b"[" * 100_000, "the body is nested too deep; send a conversation"),
        (b'{"\\ud800": 1}', "\\ud800 is no field of this API; leave it out"),
        (b'{"alpha": 0, "alpha": 1}', "alpha stands twice in one object of the body; give it once"),
        (b'{"messages": [{"role": "user", "role": "user"}]}', "role stands twice in one object"),
        (b'{"\\ud800": 1, "\\ud800": 1}', "\\ud800 stands twice"),
    ],
)
def test_bodies_that_are_none(url: str, content: bytes, said: str) -> None:
    answer = httpx.post(f"{url}/chat/completions", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(said)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_not_read_whole(url: str, chunked: bool) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(9):
            yield b" " * (1 << 20)

    content = parts() if chunked else b" " * (9 << 20)
    answer = httpx.post(f"{url}/chat/completions", content=content)
    assert answer.status_code == 413
    error = answer.json()["error"]
    size = "more than 8388608" if chunked else "9437184"
    assert error["message"] == (
        f"the body has {size} bytes; expected at most 8388608, so send a shorter conversation"
    )
    assert error["code"] == "body_too_large"


def test_a_body_without_an_end_is_answered(url: str) -> None:
    """Of chunks that never end no more is read than the limit, and no end is waited for."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(9):
            line.sendall(chunk)
        assert line.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_health_of_a_server_that_stops() -> None:
    engine = serve_zoo.engine()
    with serve_zoo.running(engine) as url:
        health = url.removesuffix("/v1") + "/health"
        told = httpx.get(health)
        assert (told.status_code, told.json()) == (
            200,
            {"status": "ok", "waiting": 0, "running": 0},
        )
        engine.stop()
        stopping = {
            "message": "the server is stopping; send the request again later",
            "type": "server_error",
            "param": None,
            "code": "stopping",
        }
        for answer in (httpx.get(health), httpx.post(f"{url}/chat/completions", json=HELLO)):
            assert (answer.status_code, answer.json()) == (503, {"error": stopping})


def test_pages_that_are_none(url: str) -> None:
    assert httpx.post(f"{url}/completions", json={}).json()["error"] == {
        "message": "POST /v1/completions is not of this API; it has POST /v1/chat/completions, GET "
        "/v1/models and GET /health",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
    other = httpx.get(f"{url}/chat/completions")
    assert (other.status_code, other.headers["allow"]) == (405, "POST")


def test_a_failure_in_a_stream_is_an_event(
    engine: Engine, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no plan today")

    steerer = engine.ready.steerer("warm", {"alpha": 0.77})
    rule = Rule("select", "broken", broken, ())
    monkeypatch.setattr(steerer, "select", rule)
    stream: Any = client.chat.completions.create(**HELLO, extra_body={"alpha": 0.77}, stream=True)
    with pytest.raises(
        openai.APIError, match=r"could not answer: the select broken raised ValueError \(no plan"
    ):
        list(stream)
    with pytest.raises(openai.InternalServerError, match="the model could not answer") as raised:
        client.chat.completions.create(**HELLO, extra_body={"alpha": 0.77})
    assert raised.value.type == "server_error"


@pytest.mark.slow
def test_many_clients_at_once(url: str, engine: Engine) -> None:
    bodies = serve_zoo.requests(12, engine.names, seed=5)
    for body in bodies[:8]:  # streamed and whole, in the batches of others
        body["unsteered_too"] = body["model"] != "unsteered"

    async def asked(client: openai.AsyncOpenAI, body: dict[str, Any], stream: bool) -> list[str]:
        known = ("model", "messages", "max_tokens", "temperature", "seed", "top_p", "stop")
        plain = {name: value for name, value in body.items() if name in known}
        extra = {name: value for name, value in body.items() if name not in known}
        create: Any = client.chat.completions.create
        if not stream:
            answer = await create(**plain, extra_body=extra)
            return [text_of(answer), unsteered_of(answer)]
        chunks = [chunk async for chunk in await create(**plain, extra_body=extra, stream=True)]
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return [said, unsteered_of(chunks[-1])]

    async def load(bodies: list[dict[str, Any]], together: bool) -> list[list[str]]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            tasks = [asked(client, body, index % 2 == 0) for index, body in enumerate(bodies)]
            return list(await asyncio.gather(*tasks)) if together else [await one for one in tasks]

    found = asyncio.run(load(bodies, True))
    assert found == asyncio.run(load(bodies, False))
    plain = [body | {"model": "unsteered"} for body in bodies if body.get("unsteered_too")]
    for body in plain:
        for name in ("alpha", "mode", "prompt_rule", "k_diff", "unsteered_too"):
            del body[name]
    unsteered = [text for text, _ in asyncio.run(load(plain, False))]
    assert len(unsteered) > 3
    assert [other for _, other in found if other] == [text for text in unsteered if text]


def test_a_client_that_goes_away_is_missed_while_its_answer_grows(engine: Engine, url: str) -> None:
    """Tokens that come faster than the server looks for its client do not keep it from looking."""
    passes: list[int] = []

    def brake(*_: Any) -> None:
        passes.append(1)
        time.sleep(0.02)

    handle = engine._model.register_forward_pre_hook(brake)
    try:
        oak = [{"role": "user", "content": "oak"}]  # whose answer has 273 tokens
        body = HELLO | {"model": "unsteered", "max_tokens": 400, "messages": oak}
        patience = httpx.Timeout(60, read=0.2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/chat/completions", json=body, timeout=patience)
        until(lambda: engine.load["running"] == 0)
    finally:
        handle.remove()
    assert 0 < len(passes) < 100


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_at_once_is_not_answered(
    engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """It goes while its request is made ready, before any answer is there to be given up."""
    ready, gone = threading.Event(), threading.Event()
    submit = engine.submit_together
    answers: list[Any] = []

    def late(requests: Any) -> Any:
        ready.set()
        assert gone.wait(30)
        answers.extend(submit(requests))
        return answers

    monkeypatch.setattr(engine, "submit_together", late)
    slow = Slow(engine)
    body = json.dumps(HELLO | {"model": "unsteered", "max_tokens": 400, "stream": stream})
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    try:
        with socket.create_connection((host, int(port))) as line:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            line.sendall(f"{head}\r\n\r\n{body}".encode())
            assert ready.wait(30)
        time.sleep(0.2)  # the server sees that the connection has closed
        gone.set()
        until(lambda: answers and answers[0].over)
        assert not answers[0].made
    finally:
        slow.handle.remove()
        slow.go()


@pytest.mark.filterwarnings("ignore:coroutine method 'aclose'")
@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_a_stream_that_never_begins_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """The connection breaks at the head of the response, as a server of either version tells."""
    answers: list[Any] = []
    submit = engine.submit_together
    monkeypatch.setattr(engine, "submit_together", lambda requests: answers_of(requests))

    def answers_of(requests: Any) -> Any:
        answers.extend(submit(requests))
        return answers

    body = json.dumps(HELLO | {"model": "unsteered", "max_tokens": 400, "stream": True})
    coming: list[dict[str, Any]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": body.encode(), "more_body": False},
    ]

    async def receive() -> Any:
        return coming.pop()

    async def send(_: Any) -> None:
        if version == "2.4":
            raise OSError("the connection is closed")
        await asyncio.sleep(30)

    scope: Any = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
        "headers": [], "asgi": {"version": "3.0", "spec_version": version}, "http_version": "1.1",
        "scheme": "http", "root_path": "", "server": ("here", 1), "client": ("there", 1),
    }  # fmt: skip
    slow = Slow(engine)
    try:
        with suppress(ClientDisconnect):
            asyncio.run(make_app(engine)(scope, receive, send))
        assert [answer.over for answer in answers] == [True]
    finally:
        slow.handle.remove()
        slow.go()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place(engine: Engine, url: str, stream: bool) -> None:
    slow = Slow(engine)
    try:
        body = json.dumps(HELLO | {"model": "unsteered", "max_tokens": 400, "stream": stream})
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as line:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            line.sendall(f"{head}\r\n\r\n{body}".encode())
            until(lambda: engine.load["running"] == 1)
            slow.go(2)
            until(lambda: slow.passes == 2)
        until(lambda: engine.load["running"] == 0)
        slow.go()
        start = time.monotonic()
        answer = httpx.post(f"{url}/chat/completions", json=HELLO, timeout=60)
        assert answer.status_code == 200
        assert time.monotonic() - start < 30
        assert slow.passes < 20
    finally:
        slow.handle.remove()
        slow.go()
