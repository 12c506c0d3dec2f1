"""A small judge on loopback that behaves as badly as it is told to."""

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What comes back for one request: a text, or a fault."""

    text: str = "Rating: [[7]]"
    status: int = 200
    delay: float = 0.0
    body: str | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[int, dict[str, Any]], Behaviour]


@dataclass
class JudgeStub:
    """Where the server listens, and what it was asked."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@contextmanager
def judge_stub(script: Script) -> Generator[JudgeStub]:
    """Serve chat completions: `script(number of the request, its body)` says how each goes."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(stub.requests)
                stub.requests.append(body)
                stub.keys.append(self.headers.get("Authorization", ""))
            behaviour = script(number, body)
            time.sleep(behaviour.delay)
            answer = behaviour.body if behaviour.body is not None else completion(behaviour.text)
            try:
                self.send_response(behaviour.status)
                self.send_header("Content-Type", behaviour.content_type)
                self.send_header("Content-Length", str(len(answer.encode())))
                for name, value in behaviour.headers.items():
                    self.send_header(name, value)
                if behaviour.status == 429 and not behaviour.headers:
                    self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(answer.encode())
            except BrokenPipeError:  # the client no longer waits
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = JudgeStub(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(text: str) -> str:
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "stub",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        }
    )
