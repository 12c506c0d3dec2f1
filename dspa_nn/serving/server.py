"""Start and stop the server: where it listens, who may ask, and a clean end on Ctrl-C."""

import asyncio
import ipaddress
import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

from dspa_nn.errors import ServingError
from dspa_nn.imports import late, without_nnsight_save
from dspa_nn.serving.app import make_app
from dspa_nn.serving.engine import Engine
from dspa_nn.serving.preparing import check_name

late("anyio")
with without_nnsight_save():
    try:
        import uvicorn
    except ImportError as error:
        raise ServingError(
            f"serving needs a library that is not installed ({error}): pip install 'dspa-nn[serve]'"
        ) from error

KEY_VARIABLE = "DSPA_API_KEY"
# Seconds that open connections have for their last words.
_GRACE = 5


class Server(uvicorn.Server):
    """uvicorn's server, which ends the engine's answers as soon as it is asked to stop."""

    def __init__(self, engine: Engine, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End answers under way with an error, or connections would wait for them."""
        threading.Thread(target=self._engine.stop, daemon=True).start()
        super().handle_exit(sig, frame)


def read_key(host: str) -> str | None:
    """The API key of the environment, which is needed wherever others may reach the server.

    Example:
        >>> read_key("0.0.0.0")
        Traceback (most recent call last):
        dspa_nn.errors.ServingError: the server would listen on 0.0.0.0, where others can reach ...

    Raises:
        ServingError: no key, and a host that is not this machine alone; or a key that no request
            can bring.
    """
    # A header loses the blanks around it, such as the end of the line of a file that held the key.
    key = os.environ.get(KEY_VARIABLE, "").strip(" \t\r\n") or None
    if key is not None and any(one != "\t" and (ord(one) < 32 or ord(one) == 127) for one in key):
        raise ServingError(
            f"the environment variable {KEY_VARIABLE} holds a line break or another control "
            "character inside, which no header can bring; set a key of one line"
        )
    if key is None and not is_local(host):
        raise ServingError(
            f"the server would listen on {host}, where others can reach it, without an API key; "
            f"set the environment variable {KEY_VARIABLE}, or listen on 127.0.0.1"
        )
    return key


def check_start(
    names: Iterable[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    batch_size: int = 8,
    window: float = 0.01,
    max_tokens: int = 512,
) -> None:
    """Refuse what a server would be refused for, as far as that is known without a model.

    Example:
        >>> check_start(["warm", "unsteered"])
        Traceback (most recent call last):
        dspa_nn.errors.ServingError: a map is named 'unsteered'; give it another name, since ...

    It listens for a moment where the server is going to, so not from a coroutine.

    Args:
        names: of the maps.
        host: as for `serve`.
        port: as for `serve`.
        batch_size: as for `Engine`.
        window: as for `Engine`.
        max_tokens: as for `Engine`.

    Raises:
        ServingError: what `Engine` or `serve` would refuse.
    """
    for name in names:
        check_name(name)
    Engine.check_options(batch_size=batch_size, window=window, max_tokens=max_tokens)
    read_key(host)
    _check_port(port)

    async def try_address() -> None:
        # With the same rules as uvicorn, which asks asyncio too.
        loop = asyncio.get_running_loop()
        tried = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        tried.close()

    try:
        asyncio.run(try_address())
    except (OSError, UnicodeError) as error:
        raise _no_address(host, port) from error


def _check_port(port: int) -> None:
    if not 0 <= port <= 65535:
        raise ServingError(f"port is {port}; expected 0 to 65535, where 0 takes any that is free")


def _no_address(host: str, port: int) -> ServingError:
    return ServingError(
        f"the server could not listen on {host}:{port}, which may be taken, or no address of "
        "this machine; choose another --port or --host"
    )


def is_local(host: str) -> bool:
    """Whether a host is this machine alone.

    Example:
        >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(engine: Engine, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """Make the server of an engine; `.run()` serves until it is told to stop.

    Example:
        >>> engine = Engine(dspa, {"warm": map})
        >>> make_server(engine, port=8123).config.port
        8123
        >>> engine.close()

    Raises:
        ServingError: a host that others can reach, and no key in the environment; or no port.
    """
    _check_port(port)
    key = read_key(host)
    config = uvicorn.Config(
        make_app(engine, key),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE,
        lifespan="off",
    )
    return Server(engine, config)


def serve(engine: Engine, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until Ctrl-C, then end answers under way with an error and return.

    Example:
        >>> engine = Engine(dspa, {"warm": map})
        >>> serve(engine, "0.0.0.0")
        Traceback (most recent call last):
        dspa_nn.errors.ServingError: the server would listen on 0.0.0.0, where others can reach ...
        >>> engine.close()

    Raises:
        ServingError: no key where others can reach the host, or an address that is taken or none.
    """
    server = make_server(engine, host, port)
    before: Any = signal.getsignal(signal.SIGINT)
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # uvicorn raises it again once it has stopped
    except (SystemExit, UnicodeError) as error:  # UnicodeError: of a name that is none
        raise _no_address(host, port) from error
    finally:
        engine.close()
        # Other threads may not, and uvicorn has changed nothing in them.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
