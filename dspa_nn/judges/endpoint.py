"""One OpenAI-compatible endpoint, asked through the `openai` package."""

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

from dspa_nn.errors import JudgeError
from dspa_nn.imports import late, untyped
from dspa_nn.judges.reply import Reply
from dspa_nn.progress import warn

Message: TypeAlias = Mapping[str, str]
# Seconds before a request is put again whose answer was no chat completion: doubled each time.
# The client's own pauses, after timeouts and refusals, are as long.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
# Seconds: where a server asks for more, the client doesn't wait, and asks no more.
_LONGEST_ASKED_FOR = 120
# Seconds; much longer ones overflow the clocks of sockets.
_LONGEST_TIMEOUT = 86400
# Codes of OpenAI's API for a setting that a model does not take.
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
# Of what a server says for itself, so many characters are passed on.
_SAID = 200


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible URL.

    Example:
        >>> endpoint = Endpoint("http://127.0.0.1:8000/v1", "my-judge")
        >>> endpoint
        Endpoint(url='http://127.0.0.1:8000/v1', model='my-judge')

    The key is read from the environment; it is never printed or written. A server of your own that
    asks for none gets a placeholder. Threads may share one endpoint.

    Attributes:
        url: the API's base, such as `https://api.openai.com/v1`.
        model: the name that the endpoint knows the model by.
        key_variable: environment variable that holds the key.
        timeout: seconds that the server may be silent in one request.
        retries: further tries after a timeout, a broken connection, status 408, 409, 429 or 5xx, or
            a body that is no chat completion; the pause before each is longer than the last, or
            what the server asks for. One that asks for more than two minutes is not asked again.

    Raises:
        JudgeError: `url` is no http(s) URL, no model is named, `timeout` is not above 0 or more
            than a day, or `retries` is below 0. Where the endpoint is first asked: a key that no
            request can carry.
    """

    url: str
    model: str
    key_variable: str = field(default="OPENAI_API_KEY", repr=False)
    timeout: float = field(default=120.0, repr=False)
    retries: int = field(default=4, repr=False)
    _client: Any = field(default=None, init=False, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    # Settings that the model has refused: newer ones of OpenAI take no temperature but their own,
    # and know max_tokens as max_completion_tokens.
    _not_taken: set[str] = field(default_factory=set[str], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.netloc) and parts.port != 0
        except ValueError:  # half an IPv6 address, or a port that is none
            parts, usable = urlsplit(""), False
        if not usable:
            raise JudgeError(
                f"judge URL is {self.url!r}; expected the base of an OpenAI-compatible API, such "
                "as http://127.0.0.1:8000/v1."
            )
        if parts.username or parts.password:
            raise JudgeError(
                "the judge URL holds a user name or password, which would be written into results; "
                f"put the key in the environment variable {self.key_variable}."
            )
        if not self.model:
            raise JudgeError("no judge model is named; give the name that the endpoint knows it by")
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:  # so that nan is refused too
            raise JudgeError(
                f"timeout is {self.timeout:g}; expected more than 0 seconds, and at most a day "
                f"({_LONGEST_TIMEOUT})."
            )
        if self.retries < 0:
            raise JudgeError(f"retries is {self.retries}; expected a whole number of at least 0.")

    def ask(
        self, messages: Sequence[Message], *, temperature: float = 0.0, max_tokens: int = 2048
    ) -> Reply:
        """Ask once, with tries again where a later try may fare better.

        Args:
            messages: chat messages, each with `role` and `content`.
            temperature: of the endpoint's sampling; left out, with a warning, where the model says
                that it takes none.
            max_tokens: of the reply, at most; sent as `max_completion_tokens` where the model asks
                for that.

        Raises:
            JudgeError: the endpoint refused (`passing` is False), or did not answer well in any of
                the tries (`passing` is True).
        """
        openai = _library()
        client = self._connected(openai)
        tries = self.retries + 1
        garbled = "nothing"
        for number in range(tries):
            if number:
                time.sleep(min(_FIRST_PAUSE * 2 ** (number - 1), _LONGEST_PAUSE))
            try:
                completion: Any = self._put(openai, client, messages, temperature, max_tokens)
            except openai.APIStatusError as error:
                raise self._refused(error, tries) from None
            except openai.APIConnectionError as error:
                what = "in time" if isinstance(error, openai.APITimeoutError) else "at all"
                raise JudgeError(
                    f"{self.url} did not answer {what} in {tries} tries; see that the server runs "
                    "and that the URL is right, then run again: what was judged is kept.",
                    passing=True,
                ) from None
            except (openai.APIError, ValueError) as error:
                garbled = f"{type(error).__name__}: {error}"
                continue
            reply = _read(completion)
            if reply is not None:
                return reply
            page = completion.strip() if isinstance(completion, str) else repr(completion)
            garbled = _said(completion) or page[:80]
            if garbled.lower().startswith(("<!doctype", "<html")):
                raise JudgeError(
                    f"{self.url} answered with a web page; expected JSON of an OpenAI-compatible "
                    "API: give its base URL, which often ends in /v1."
                )
        raise JudgeError(
            f"{self.url} answered {tries} times with what is no chat completion "
            f"({self._cut(garbled)}); see that it is an OpenAI-compatible API.",
            passing=True,
        )

    def _put(
        self,
        openai: Any,
        client: Any,
        messages: Sequence[Message],
        temperature: float,
        max_tokens: int,
    ) -> Any:
        """Send one request, and again without a setting that the model says it does not take."""
        while True:
            length = "max_completion_tokens" if "max_tokens" in self._not_taken else "max_tokens"
            settings: dict[str, Any] = {length: max_tokens, "temperature": temperature}
            if "temperature" in self._not_taken:
                del settings["temperature"]
            try:
                return client.chat.completions.create(
                    model=self.model, messages=list(messages), **settings
                )
            except openai.BadRequestError as error:
                adaptable = [name for name in ("max_tokens", "temperature") if name in settings]
                if error.code not in _UNSUPPORTED or error.param not in adaptable:
                    raise
                self._leave_out(error.param)

    def _leave_out(self, setting: str) -> None:
        with self._lock:
            if setting in self._not_taken:
                return
            self._not_taken.add(setting)
        if setting == "temperature":
            warn(
                f"the judge {self.model!r} takes no temperature and samples at one of its own: "
                "what it says may differ from run to run."
            )

    def _connected(self, openai: Any) -> Any:
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise JudgeError(
                f"the key in the environment variable {self.key_variable} holds a character that "
                "no request can carry, such as one beyond ASCII or the end of a line; set it anew."
            )
        with self._lock:
            if self._client is None:
                self._client = openai.OpenAI(
                    base_url=self.url,
                    api_key=key or "none",
                    timeout=self.timeout,
                    max_retries=self.retries,
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def _cut(self, said: str) -> str:
        """What a server said, less the key, should it repeat that."""
        key = os.environ.get(self.key_variable, "").strip()
        said = " ".join((said.replace(key, "...") if key else said).split())
        return said[:_SAID]

    def _refused(self, error: Any, tries: int) -> JudgeError:
        status: int = error.status_code
        if status in (401, 403):
            return JudgeError(
                f"{self.url} refused the key (status {status}); set the environment variable "
                f"{self.key_variable}."
            )
        said = self._cut(_said(error.body))
        told = f"status {status}" + (f", {said!r}" if said else "")
        if status == 404:
            return JudgeError(
                f"{self.url} knows no chat completions for a model {self.model!r} ({told}); "
                "see the URL, which often ends in /v1, and the model's name."
            )
        if status in (408, 409, 429) or status >= 500:
            pause = str(error.response.headers.get("retry-after", ""))
            how = f"in each of {tries} tries" + (f" ({said!r})" if said else "")
            # The client says in each request which try it is, and gives up where it is told to.
            made = int(error.request.headers.get("x-stainless-retry-count", tries - 1)) + 1
            if pause.isdecimal() and int(pause) > _LONGEST_ASKED_FOR:
                how = f"and asks for a pause of {pause} s"
            elif made < tries:
                how = "and asks for no further try now" + (f" ({said!r})" if said else "")
            return JudgeError(
                f"{self.url} answered with status {status} {how}; wait, then run again: what was "
                "judged is kept.",
                passing=True,
            )
        return JudgeError(
            f"{self.url} refused the request ({told}); see that the model {self.model!r} "
            "takes a request of this length and these settings.",
            of_request=status in (400, 413, 422),
        )


def _library() -> Any:
    """The `openai` package; web clients need a part of anyio that nnsight breaks."""
    try:
        late("anyio")
        return untyped("openai")
    except ImportError:
        raise JudgeError(
            "a judge is asked through the package openai, which is not installed; "
            "pip install 'dspa-nn[eval]'"
        ) from None


def _read(completion: Any) -> Reply | None:
    """The reply in a completion, or None where it is none."""
    try:
        content = completion.choices[0].message.content
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    usage = getattr(completion, "usage", None)
    return Reply(
        str(content or ""),
        _tokens(usage, "prompt_tokens"),
        _tokens(usage, "completion_tokens"),
    )


def _said(body: Any) -> str:
    """An error in the server's own words; empty where it says none."""
    error = getattr(body, "error", body)
    if isinstance(error, Mapping):
        message: Any = cast(Mapping[str, Any], error).get("message")
        return message if isinstance(message, str) else ""
    return ""


def _tokens(usage: object, name: str) -> int:
    """Tokens as the endpoint counted them; 0 where it tells none, or no number."""
    told: Any = getattr(usage, name, None)
    return told if isinstance(told, int) and not isinstance(told, bool) else 0
