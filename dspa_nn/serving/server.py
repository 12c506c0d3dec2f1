"""Start and stop the server: where it listens, who may ask, and a clean end on Ctrl-C."""

import ipaddress
import os
import signal
import threading
from types import FrameType
from typing import Any

from dspa_nn.errors import ServingError
from dspa_nn.imports import late, without_nnsight_save
from dspa_nn.serving.app import make_app
from dspa_nn.serving.engine import Engine

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
        ServingError: no key, and a host that is not this machine alone.
    """
    # A header loses the blanks around it, such as the end of the line of a file that held the key.
    key = os.environ.get(KEY_VARIABLE, "").strip(" \t\r\n") or None
    if key is None and not is_local(host):
        raise ServingError(
            f"the server would listen on {host}, where others can reach it, without an API key; "
            f"set the environment variable {KEY_VARIABLE}, or listen on 127.0.0.1"
        )
    return key


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
        ServingError: a host that others can reach, and no key in the environment.
    """
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
        raise ServingError(
            f"the server could not listen on {host}:{port}, which may be taken, or no address of "
            "this machine; choose another --port or --host"
        ) from error
    finally:
        signal.signal(signal.SIGINT, before)
        engine.close()
