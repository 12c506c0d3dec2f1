"""One model, many maps, and the thread that answers: requests that wait together run together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspa_nn.errors import DSPAError, MapError, ServingError, SteeringError, TripleError
from dspa_nn.graph.record import Steerer
from dspa_nn.graph.settings import PLAN_SETTINGS, SETTINGS
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import as_local, context_length
from dspa_nn.serving.answer import Answer, Event
from dspa_nn.serving.batch import run_batch
from dspa_nn.serving.request import ChatRequest
from dspa_nn.serving.sampling import Sampling
from dspa_nn.serving.text import TextStream
from dspa_nn.steering import DSPA, SteeringOptions, row_steerer

UNSTEERED = "unsteered"
# Steerers that are kept: of each map with each choice of settings that requests come with.
_KEPT = 64
_STOPPING = "the server is stopping; send the request again later"


class Engine:
    """Answers requests with one model, each steered by its own map and settings.

    Example:
        >>> engine = Engine(dspa, {"warm": map}, max_tokens=4)
        >>> engine.names
        ['warm', 'unsteered']
        >>> engine.close()

    Requests that wait together, up to `batch_size` of them, are one call of the model's `generate`;
    a request that comes later waits for that call to end. Each row of it is planned and steered by
    its own map, and ends on its own; the call ends with its last row.

    Args:
        dspa: the model and its two SAEs.
        maps: maps, sums of maps among them, by the name that requests give.
        batch_size: requests that are answered at once, at most.
        window: seconds that the first request waits for others to join it.
        max_tokens: length of answers whose request names none.

    Raises:
        ServingError: no usable name, or a tokenizer without a chat template.
        MapError: a map of another model or SAE.
    """

    def __init__(
        self,
        dspa: DSPA,
        maps: Mapping[str, ConditionalDifferenceMap],
        *,
        batch_size: int = 8,
        window: float = 0.01,
        max_tokens: int = 512,
    ) -> None:
        self.dspa, self.maps = dspa, dict(maps)
        if UNSTEERED in self.maps or "" in self.maps:
            raise ServingError(
                f"a map is named {'' if '' in self.maps else UNSTEERED!r}; give it another name, "
                f"since {UNSTEERED!r} asks for answers without a map"
            )
        if getattr(dspa.facts.tokenizer, "chat_template", None) is None:
            raise ServingError(
                f"the tokenizer of {dspa.facts.model_id} has no chat template, which says how "
                "messages become a prompt; serve a model that was tuned to chat, or set "
                "tokenizer.chat_template"
            )
        self.batch_size, self.window, self.max_tokens = batch_size, window, max_tokens
        self.created = int(time.time())
        self._model: Any = as_local(dspa.model)
        self.context = context_length(self._model)
        self._steerers: dict[tuple[object, ...], Steerer] = {}
        self._preparing = threading.Lock()
        for name in self.maps:
            self._steerer(name, {})
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dspa-engine", daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        """What a request may name as its model."""
        return [*self.maps, UNSTEERED]

    @property
    def load(self) -> dict[str, int]:
        """How many requests wait, and how many are being answered."""
        with self._changed:
            running = sum(not answer.over for answer in self._running)
            waiting = sum(not answer.over for answer in self._waiting)
            return {"waiting": waiting, "running": running}

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Answer:
        """Check a request and put it in the queue.

        Args:
            request: what `read_request` returned.
            deliver: called with each `Event` of the answer, from the engine's thread.

        Raises:
            ServingError: what cannot be answered, with the field at fault.
        """
        answer = self._prepared(request, deliver)
        with self._changed:
            if self._closed:
                raise ServingError(_STOPPING, status=503, code="stopping")
            self._waiting.append(answer)
            self._changed.notify_all()
        return answer

    def stop(self) -> None:
        """End every answer with an error that says so; take no more requests."""
        with self._changed:
            self._closed = True
            left = [*self._waiting, *self._running]
            self._waiting.clear()
            self._changed.notify_all()
        for answer in left:
            answer.fail(ServingError(_STOPPING, status=503, code="stopping"))

    def close(self) -> None:
        """Stop, and wait for the model's current step."""
        self.stop()
        self._thread.join()

    def _prepared(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Answer:
        name = None if request.unsteered else request.map or request.model
        for param, given in (("model", request.model), ("map", request.map)):
            if given is not None and given not in self.names:
                raise ServingError(
                    f"{param} is {given!r}, and this server has {', '.join(self.names)}; name one "
                    "of them",
                    status=404,
                    param=param,
                    code="model_not_found",
                )
        name = None if name == UNSTEERED else name
        chosen = {key: getattr(request, key) for key in PLAN_SETTINGS}
        chosen = {key: value for key, value in chosen.items() if value is not None}
        if name is None and (chosen or request.percentile is not None):
            field = next(iter(chosen), "percentile")
            raise ServingError(
                f"{field} came with the model {UNSTEERED!r}, which has no use for it; name a map, "
                "or leave it out",
                param=field,
            )
        with self._preparing:
            steerer = None if name is None else self._steerer(name, chosen, request.percentile)
            try:
                prompt = self.dspa.render(
                    [{"role": _role(one.role), "content": one.text} for one in request.messages]
                )
            except TripleError as error:
                raise ServingError(str(error), param="messages") from None
        return Answer(
            prompt,
            steerer,
            name,
            Sampling(
                1.0 if request.temperature is None else request.temperature,
                1.0 if request.top_p is None else request.top_p,
                request.seed,
            ),
            TextStream(self.dspa.facts.tokenizer, request.stops),
            self._length(request, len(prompt.prompt_ids)),
            bool(request.plan),
            bool(request.edits),
            deliver,
        )

    def _length(self, request: ChatRequest, prompt_tokens: int) -> int:
        """The tokens that an answer may have."""
        room = self.context - prompt_tokens
        asked = request.max_completion_tokens or request.max_tokens
        if room < 1 or (asked is not None and asked > room):
            wanted = "" if asked is None else f" and an answer of up to {asked}"
            raise ServingError(
                f"the prompt of {prompt_tokens} tokens{wanted} does not fit the model's context of "
                f"{self.context}; send fewer or shorter messages, or ask for a shorter answer",
                param="messages",
                code="context_length_exceeded",
            )
        return min(room, self.max_tokens) if asked is None else asked

    def _steerer(
        self, name: str, chosen: Mapping[str, Any], percentile: float | None = None
    ) -> Steerer:
        map = self.maps[name]
        settings: Any = SETTINGS
        for setting in settings:
            if setting.name in chosen:
                try:
                    setting.check(chosen[setting.name])
                except SteeringError as error:
                    raise ServingError(str(error), param=setting.name) from None
        fitted = getattr(map, "percentile", None)
        if percentile is not None and percentile != fitted:
            raise ServingError(
                f"percentile is {percentile:g}, and the map {name} "
                + ("is a sum" if fitted is None else f"was fitted with {fitted:g}")
                + "; it is chosen when a map is fitted, so load a map of that percentile",
                param="percentile",
            )
        key = (name, *sorted(chosen.items()))
        if key not in self._steerers:
            options: Any = dict(chosen)
            try:
                steerer = row_steerer(self.dspa, map, SteeringOptions(**options))
            except SteeringError as error:
                raise ServingError(str(error)) from None
            except MapError as error:
                raise MapError(f"map {name}: {error}") from None
            while len(self._steerers) >= _KEPT:
                del self._steerers[next(iter(self._steerers))]
            self._steerers[key] = steerer
        return self._steerers[key]

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            try:  # the thread must outlive any request
                self._run(batch)
            except Exception as error:  # noqa: BLE001
                self._failed(batch, error)

    def _next_batch(self) -> list[Answer] | None:
        """Wait for requests; None where the engine is closed."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._closed or self._waiting)
            end = time.monotonic() + self.window
            while not self._closed and len(self._waiting) < self.batch_size:
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._closed:
                return None
            while self._waiting and len(self._running) < self.batch_size:
                answer = self._waiting.popleft()
                if not answer.over:
                    self._running.append(answer)
            return self._running

    def _failed(self, batch: Sequence[Answer], error: Exception) -> None:
        """A run has failed: answers of which nothing was made yet are tried alone, for once."""
        left = [answer for answer in batch if not answer.over]
        again = [answer for answer in left if not answer.made] if len(batch) > 1 else []
        said = str(error) if isinstance(error, DSPAError) else f"{type(error).__name__}: {error}"
        for answer in left:
            if answer not in again:
                failure = f"the model could not answer: {said}"
                answer.fail(ServingError(failure, status=500, code="generation_failed"))
        for answer in again:
            try:
                self._run([answer])
            except Exception as error:  # noqa: BLE001
                self._failed([answer], error)

    def _run(self, batch: Sequence[Answer]) -> None:
        if batch:
            run_batch(self.dspa, self._model, batch)


def _role(role: str) -> str:
    """`developer` is the newer name of a system message."""
    return "system" if role == "developer" else role
