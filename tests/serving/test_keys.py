"""Where a server listens, and who may ask it: keys of the environment and of a request."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dspa_nn import ServingError
from dspa_nn.serving import (
    KEY_VARIABLE,
    Engine,
    check_start,
    make_app,
    make_server,
    read_key,
    serve,
)
from dspa_nn.serving.server import is_local
from tests import serve_zoo
from tests.serving.test_api import HELLO


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = serve_zoo.engine()
    yield engine
    engine.close()


def test_a_key_is_asked_for_beyond_this_machine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ServingError) as raised:
        make_server(engine, "0.0.0.0")
    assert str(raised.value) == (
        "the server would listen on 0.0.0.0, where others can reach it, without an API key; set "
        "the environment variable DSPA_API_KEY, or listen on 127.0.0.1"
    )
    assert [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "::", "a.b")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_a_wrong_key_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: Any, capfd: Any) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sésame")
    engine = serve_zoo.engine()
    with serve_zoo.running(engine) as url:
        for key in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sésam"}):
            sent: Any = {name: value.encode() for name, value in key.items()}
            answer = httpx.post(f"{url}/chat/completions", json=HELLO, headers=sent)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        right: Any = {"Authorization": "Bearer sésame".encode()}
        assert httpx.post(f"{url}/chat/completions", json=HELLO, headers=right).status_code == 200
        assert httpx.get(url.removesuffix("/v1") + "/health").json()["status"] == "ok"
    assert "sésame" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("held", ["sésame", "sésame\n", " sésame ", "s\udce9same"])
def test_a_key_is_compared_as_it_can_come(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """A header has no blanks around a key, and the environment may hold bytes of any encoding."""
    monkeypatch.setenv(KEY_VARIABLE, held)
    app = make_app(engine, read_key("0.0.0.0"))
    right = held.strip().encode(errors="surrogateescape")

    async def asked(sent: bytes) -> int:
        transport: Any = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            answer = await client.get("/v1/models", headers=[(b"Authorization", sent)])
        return answer.status_code

    assert asyncio.run(asked(b"Bearer " + right)) == 200
    assert asyncio.run(asked(b"bearer " + right)) == 200
    for wrong in (b"", b"Bearer", b"Bearer ", b"Basic " + right, right, b"Bearer " + right + b"s"):
        assert asyncio.run(asked(wrong)) == 401


def test_a_port_that_is_none(engine: Engine) -> None:
    for port in (-1, 70000):
        with pytest.raises(ServingError, match=f"port is {port}; expected 0 to 65535, where 0"):
            make_server(engine, port=port)
        with pytest.raises(ServingError, match=f"port is {port}; expected 0 to 65535, where 0"):
            check_start(["warm"], port=port)
    check_start(["warm"], port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match="the server could not listen on"):
            check_start(["warm"], port=port)


@pytest.mark.parametrize("held", ["one\ntwo", "one\x7ftwo", "one\r\ntwo\n"])
def test_a_key_that_no_header_can_bring(monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, held)
    with pytest.raises(ServingError) as raised:
        read_key("127.0.0.1")
    assert str(raised.value) == (
        "the environment variable DSPA_API_KEY holds a line break or another control character "
        "inside, which no header can bring; set a key of one line"
    )


def test_a_server_in_a_thread_ends_as_any_other() -> None:
    engine = serve_zoo.engine()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            serve(engine, port=port)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)
    assert [type(error) for error in failed] == [ServingError]
    assert engine.stopping


def test_a_blank_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " \n")
    assert read_key("127.0.0.1") is None
    with pytest.raises(ServingError, match="without an API key"):
        read_key("0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "no..name"])
def test_where_nothing_can_listen(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "key")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError) as raised:
            serve(serve_zoo.engine(), host, port)
    assert str(raised.value) == (
        f"the server could not listen on {host}:{port}, which may be taken, or no address of this "
        "machine; choose another --port or --host"
    )
