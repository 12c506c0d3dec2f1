"""A judge: an endpoint whose replies are kept, and whose spend is counted."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import JudgeError
from dspa_nn.files import sha256_of_json
from dspa_nn.judges.cache import ReplyCache
from dspa_nn.judges.endpoint import Endpoint, Message
from dspa_nn.judges.reply import Reply


@dataclass
class Spend:
    """What was asked of an endpoint so far.

    Example:
        >>> spend = Spend(requests=2, prompt_tokens=3_000_000, completion_tokens=500_000)
        >>> spend.cost(prompt=2.5, completion=10.0)
        12.5

    Attributes:
        requests: replies that came from the endpoint.
        cached: replies that came from disk, and cost nothing.
        prompt_tokens: of the requests, as the endpoint counted them.
        completion_tokens: of its replies.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests} requests ({self.prompt_tokens} tokens in, {self.completion_tokens} "
            f"out), {self.cached} replies from disk"
        )

    def cost(self, prompt: float, completion: float) -> float:
        """The price, where a million tokens cost `prompt` going in and `completion` coming out."""
        return (self.prompt_tokens * prompt + self.completion_tokens * completion) / 1e6


class Judge:
    """An endpoint with a cache on disk: a request that was answered is never sent again.

    Example:
        >>> import tempfile
        >>> endpoint = Endpoint("http://127.0.0.1:8000/v1", "my-judge")
        >>> judge = Judge(endpoint, ReplyCache(tempfile.mkdtemp() + "/replies.jsonl"))
        >>> print(judge.spend)
        0 requests (0 tokens in, 0 out), 0 replies from disk

    Threads may share one judge.

    Args:
        endpoint: who is asked.
        cache: where replies are kept; None keeps none.
        attempts: how often one question is put until a reply is accepted.

    Raises:
        JudgeError: `attempts` is no whole number of at least 1.
    """

    def __init__(
        self, endpoint: Endpoint, cache: ReplyCache | None = None, *, attempts: int = 3
    ) -> None:
        check_positive_int("attempts", attempts, JudgeError)
        self.endpoint = endpoint
        self.cache = cache
        self.attempts = attempts
        self.spend = Spend()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The model's name at the endpoint."""
        return self.endpoint.model

    def ask(
        self,
        messages: Sequence[Message],
        *,
        accept: Callable[[str], bool] = bool,
        temperature: float = 0.0,
        max_tokens: int = 2048,
    ) -> Reply:
        """The first reply that is accepted, or the last one where none was.

        Args:
            messages: chat messages, each with `role` and `content`.
            accept: whether a reply's text is of the form asked for; if not, it is asked again.
            temperature: of the endpoint's sampling.
            max_tokens: of the reply, at most.

        Raises:
            JudgeError: the endpoint refused or did not answer.
            FileError: the cache cannot be written.
        """
        reply = Reply("")
        for attempt in range(self.attempts):
            reply = self._once(messages, attempt, temperature, max_tokens)
            if accept(reply.text):
                break
        return reply

    def _once(
        self, messages: Sequence[Message], attempt: int, temperature: float, max_tokens: int
    ) -> Reply:
        messages = [{part: _sendable(text) for part, text in one.items()} for one in messages]
        request = {
            "url": self.endpoint.url,
            "model": self.endpoint.model,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "attempt": attempt,
        }
        key = sha256_of_json(request)
        kept = None if self.cache is None else self.cache.get(key)
        if kept is not None:
            with self._lock:
                self.spend.cached += 1
            return kept
        reply = self.endpoint.ask(messages, temperature=temperature, max_tokens=max_tokens)
        if self.cache is not None:
            self.cache.put(key, reply)
        self._count(reply)
        return reply

    def takes_requests(self) -> bool:
        """Whether the endpoint takes a short request now; it is put each time, and counted.

        Raises:
            JudgeError: the endpoint did not answer, or refused the key or the model.
        """
        try:
            reply = self.endpoint.ask([{"role": "user", "content": "Say yes."}])
        except JudgeError as error:
            if error.of_request:
                return False
            raise
        self._count(reply)
        return True

    def _count(self, reply: Reply) -> None:
        with self._lock:
            self.spend.requests += 1
            self.spend.prompt_tokens += reply.prompt_tokens
            self.spend.completion_tokens += reply.completion_tokens


def _sendable(text: str) -> str:
    """The text, where half of a surrogate pair, which no request can hold, becomes `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")
