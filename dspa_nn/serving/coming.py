"""The answers to one request, from the engine's thread to the loop that serves connections."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dspa_nn.errors import ServingError
from dspa_nn.serving.answer import Answer, Done, Event
from dspa_nn.serving.engine import STOPPING, Engine
from dspa_nn.serving.request import ChatRequest

if TYPE_CHECKING:
    from fastapi import Request

# Seconds between two looks at whether the client of an answer that is not streamed is still there.
_LOOK = 0.25


class Gone(Exception):
    """The client is not there any more, so that nobody reads the answer."""


@dataclass
class Coming:
    """The answers to one request: of two the steered one comes first, then the unsteered one.

    Attributes:
        events: what comes of each, by its place.
        answers: those that are under way.
        texts: what has come of each so far.
        ends: of those that have ended.
    """

    events: "asyncio.Queue[tuple[int, Event]]" = field(
        default_factory=asyncio.Queue[tuple[int, Event]]
    )
    answers: list[Answer] = field(default_factory=list[Answer])
    texts: list[str] = field(default_factory=list[str])
    ends: dict[int, Done] = field(default_factory=dict[int, Done])

    async def each(self, request: "Request | None" = None) -> AsyncGenerator[tuple[int, Event]]:
        """The events up to the last end, for as long as the client of a request is there.

        Where one of two answers fails, the request fails, and the error says which one it was.
        """
        clock = asyncio.get_running_loop().time
        looked = clock()
        while len(self.ends) < len(self.answers):
            if request is not None and clock() - looked >= _LOOK:
                if await request.is_disconnected():
                    raise Gone
                looked = clock()
            try:
                place, event = await asyncio.wait_for(self.events.get(), _LOOK)
            except TimeoutError:
                continue
            if isinstance(event, ServingError):
                raise self._failure(place, event)
            if isinstance(event, Done):
                self.ends[place] = event
            else:
                self.texts[place] += event.text
            yield place, event

    def _failure(self, place: int, error: ServingError) -> ServingError:
        if len(self.answers) == 1 or error.code == STOPPING:
            return error
        return ServingError(
            f"the {'unsteered' if place else 'steered'} answer failed: {error}",
            status=error.status,
            param=error.param,
            code=error.code,
        )

    def told(self) -> dict[str, dict[str, Any]]:
        """What stands under "dspa": what is told of the steering, and the unsteered answer."""
        told = dict(self.ends[0].dspa or {})
        if 1 in self.ends:
            told["unsteered"] = {
                "content": self.texts[1],
                "finish_reason": self.ends[1].reason,
                "usage": usage_of(self.ends[1]),
            }
        return {"dspa": told} if told else {}

    def cancel(self) -> None:
        """Give the answers up that have not ended."""
        for answer in self.answers:
            answer.cancel()


async def submitted(engine: Engine, asked: ChatRequest) -> Coming:
    """The answer to a request, and the unsteered one where that is asked for too."""
    loop = asyncio.get_running_loop()
    coming = Coming()

    def deliver(place: int, event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(coming.events.put_nowait, (place, event))

    requests = [
        (request, partial(deliver, place)) for place, request in enumerate(asked.for_each_answer())
    ]
    # Rendering and the first use of a setting take some milliseconds.
    coming.answers = await asyncio.to_thread(engine.submit_together, requests)
    coming.texts = [""] * len(requests)
    return coming


def usage_of(done: Done) -> dict[str, int]:
    """The counts of tokens, as the API tells them."""
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
    }
