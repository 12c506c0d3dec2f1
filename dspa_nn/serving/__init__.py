"""An OpenAI-compatible server whose every request is steered by its own map and settings.

`Engine` answers, `make_app` is its API for any ASGI server, and `serve` listens. `make_app` and
what stands on it need the extra `serve`.
"""

from typing import TYPE_CHECKING

from dspa_nn.imports import lazy_names

if TYPE_CHECKING:
    from dspa_nn.serving.answer import Answer, Done, Event, Piece
    from dspa_nn.serving.app import make_app
    from dspa_nn.serving.engine import Engine
    from dspa_nn.serving.preparing import UNSTEERED
    from dspa_nn.serving.request import ChatRequest, read_request
    from dspa_nn.serving.sampling import Sampling
    from dspa_nn.serving.server import (
        KEY_VARIABLE,
        check_start,
        make_server,
        read_key,
        serve,
    )
    from dspa_nn.serving.text import TextStream

__all__ = [
    "KEY_VARIABLE",
    "UNSTEERED",
    "Answer",
    "ChatRequest",
    "Done",
    "Engine",
    "Event",
    "Piece",
    "Sampling",
    "TextStream",
    "check_start",
    "make_app",
    "make_server",
    "read_key",
    "read_request",
    "serve",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "answer": ["Answer", "Done", "Event", "Piece"],
        "app": ["make_app"],
        "engine": ["Engine"],
        "preparing": ["UNSTEERED"],
        "request": ["ChatRequest", "read_request"],
        "sampling": ["Sampling"],
        "server": ["KEY_VARIABLE", "check_start", "make_server", "read_key", "serve"],
        "text": ["TextStream"],
    },
)
