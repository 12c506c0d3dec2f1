"""A judge that is none, on loopback: it rates by a hash of what it reads, the same every time."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "stub"


def reply_to(text: str) -> str:
    """A rating for MT-Bench's prompts, a ranking for AlpacaEval's; neither means anything.

    >>> reply_to("Is it good?")
    'Rating: [[6]]'
    >>> reply_to("Rank model_1 and model_2.")
    "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
    """
    drawn = sha256(text.encode()).digest()[0]
    if "model_1" not in text:
        return f"Rating: [[{1 + drawn % 10}]]"
    first, second = ("model_1", "model_2") if drawn % 2 else ("model_2", "model_1")
    return f"[{{'model': '{first}', 'rank': 1}}, {{'model': '{second}', 'rank': 2}}]"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = "\n".join(str(message["content"]) for message in body["messages"])
        self._answer({"role": "assistant", "content": reply_to(text)}, len(text.split()))

    def _answer(self, message: dict[str, Any], tokens: int) -> None:
        said = json.dumps(
            {
                "id": "1", "object": "chat.completion", "created": 1, "model": NAME,
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {
                    "prompt_tokens": tokens, "completion_tokens": 3, "total_tokens": tokens + 3,
                },
            }
        ).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


@contextmanager
def judge_stub() -> Generator[str]:
    """Serve it for as long as the block lasts; yields the base URL.

    >>> with judge_stub() as url:
    ...     url.startswith("http://127.0.0.1:")
    True
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
