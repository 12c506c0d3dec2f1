"""One model, many maps, and the thread that answers: requests that wait together run together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspa_nn.checks import check_finite_number, check_positive_int
from dspa_nn.errors import ServingError
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import as_local
from dspa_nn.serving.answer import Answer, Event
from dspa_nn.serving.batch import generation_failed, run_batch
from dspa_nn.serving.preparing import Preparation
from dspa_nn.serving.request import ChatRequest
from dspa_nn.steering import DSPA

# The code of the error of a server that stops.
STOPPING = "stopping"


class Engine:
    """Answers requests with one model, each steered by its own map and settings.

    Example:
        >>> engine = Engine(dspa, {"warm": map}, max_tokens=4)
        >>> engine.names
        ['warm', 'unsteered']
        >>> engine.close()

    Requests that wait together, up to `batch_size` of them, are one call of the model's `generate`,
    in the order of their arrival; a request that comes later waits for that call to end. Each row
    of it is planned and steered by its own map, and ends on its own; the call ends with its last
    row. Engines of one model take turns.

    Args:
        dspa: the model and its two SAEs.
        maps: maps, sums of maps among them, by the name that requests give.
        batch_size: requests that are answered at once, at most.
        window: seconds that the first request waits for others to join it, 60 at most.
        max_tokens: length of answers whose request names none.

    Raises:
        ServingError: no usable name, a tokenizer without a chat template, or a number out of range.
        MapError: a map of another model or SAE.
    """

    longest_window = 60

    def __init__(
        self,
        dspa: DSPA,
        maps: Mapping[str, ConditionalDifferenceMap],
        *,
        batch_size: int = 8,
        window: float = 0.01,
        max_tokens: int = 512,
    ) -> None:
        self.check_options(batch_size=batch_size, window=window, max_tokens=max_tokens)
        self.ready = Preparation(dspa, maps, max_tokens)
        self.dspa, self.maps = dspa, self.ready.maps
        self.batch_size, self.window = batch_size, window
        self.created = int(time.time())
        self._model: Any = as_local(dspa.model)
        # In the order of arrival; those in one tuple are of one batch.
        self._waiting: deque[tuple[Answer, ...]] = deque()
        self._running: list[Answer] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dspa-engine", daemon=True)
        self._thread.start()

    @classmethod
    def check_options(cls, *, batch_size: int, window: float, max_tokens: int) -> None:
        """Refuse options of which one is out of range, which needs no model.

        Raises:
            ServingError: a number out of range.
        """
        check_positive_int("batch_size", batch_size, ServingError)
        check_positive_int("max_tokens", max_tokens, ServingError)
        check_finite_number("window", window, ServingError)
        if not 0 <= window <= cls.longest_window:
            raise ServingError(
                f"window is {window:g}; expected 0 to {cls.longest_window} seconds, which every "
                "first request waits"
            )

    @property
    def names(self) -> list[str]:
        """What a request may name as its model."""
        return self.ready.names

    @property
    def load(self) -> dict[str, int]:
        """How many requests wait, and how many are being answered."""
        with self._changed:
            running = sum(not answer.over for answer in self._running)
            waiting = sum(not answer.over for group in self._waiting for answer in group)
            return {"waiting": waiting, "running": running}

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop, so that it refuses every request."""
        return self._closed

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Answer:
        """Check a request and put it in the queue.

        Args:
            request: what `read_request` returned.
            deliver: called with each `Event` of the answer, from the engine's thread.

        Raises:
            ServingError: what cannot be answered, with the field at fault.
        """
        [answer] = self.submit_together([(request, deliver)])
        return answer

    def submit_together(
        self, requests: Sequence[tuple[ChatRequest, Callable[[Event], None]]]
    ) -> list[Answer]:
        """Check requests and put all of them in the queue at once, or none.

        They are of one batch, which they wait for together; more than `batch_size` of them are of
        as few batches as can be.

        Args:
            requests: each with what is called with the events of its answer, as in `submit`.
        """
        answers = [self.ready.answer(request, deliver) for request, deliver in requests]
        with self._changed:
            if self._closed:
                raise stop_error()
            for start in range(0, len(answers), self.batch_size):
                self._waiting.append(tuple(answers[start : start + self.batch_size]))
            self._changed.notify_all()
        return answers

    def stop(self) -> None:
        """End every answer with an error that says so; take no more requests."""
        with self._changed:
            self._closed = True
            left = [answer for group in self._waiting for answer in group] + self._running
            self._waiting.clear()
            self._changed.notify_all()
        for answer in left:
            answer.fail(stop_error())

    def close(self) -> None:
        """Stop, and wait for the model's current step."""
        self.stop()
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            self._try(batch)

    def _next_batch(self) -> list[Answer] | None:
        """Wait for requests; None where the engine is closed."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._closed or self._waiting)
            end = time.monotonic() + self.window
            while not self._closed and sum(map(len, self._waiting)) < self.batch_size:
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._closed:
                return None
            # Strictly in the order of arrival: a pair that finds one place left waits for the next
            # batch, and whoever comes after it does too.
            while self._waiting:
                group = [answer for answer in self._waiting[0] if not answer.over]
                if len(self._running) + len(group) > self.batch_size:
                    break
                self._waiting.popleft()
                self._running += group
            return self._running

    def _try(self, batch: Sequence[Answer]) -> None:
        failure = None
        try:  # the thread must outlive any request
            self._run(batch)
        except Exception as error:  # noqa: BLE001
            failure = generation_failed(error)
        # By now the error is gone, and with it the memory of the run that its frames held.
        if failure is not None:
            self._failed(batch, failure)

    def _failed(self, batch: Sequence[Answer], failure: ServingError) -> None:
        """A run has failed: answers of which nothing was made yet are tried alone, for once."""
        left = [answer for answer in batch if not answer.over]
        again = [answer for answer in left if not answer.made] if len(batch) > 1 else []
        for answer in left:
            if answer not in again:
                answer.fail(failure)
        for answer in again:
            self._try([answer])

    def _run(self, batch: Sequence[Answer]) -> None:
        if not all(answer.over for answer in batch):
            run_batch(self.dspa, self._model, batch)


def stop_error() -> ServingError:
    """What is told to whoever asks an engine that stops, or waits for its answer."""
    return ServingError(
        "the server is stopping; send the request again later", status=503, code=STOPPING
    )
