"""What is repeated on the way to NDIF, and what must not be."""

from typing import Any

import httpx
import pytest

from dspa_nn import NDIFError
from dspa_nn.ndif.backend import ATTEMPTS, Backend
from tests.ndif.test_local import MODEL


class Flaky:
    """Stands in for nnsight's own method: raises what it was given, in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, *_: Any) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def refused_connection() -> Exception:
    from nnsight.intervention.backends.remote import RemoteError

    error = RemoteError("Failed to send request: refused")
    error.__cause__ = httpx.ConnectError("refused")
    return error


def cut_off() -> Exception:
    error = refused_connection()
    error.__cause__ = httpx.ReadTimeout("no answer")
    return error


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited between attempts, and none of them spent."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    return waited


def test_a_submission_that_never_arrived_is_repeated(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnsight.intervention.backends.remote import RemoteBackend, RemoteError

    post = Flaky(refused_connection(), refused_connection())
    monkeypatch.setattr(RemoteBackend, "_post", post)
    backend = Backend(MODEL, host="http://127.0.0.1:9")
    assert backend._post(None, b"x") == "done"
    assert (post.calls, pauses) == (3, [0.5, 1.0])
    forever = Flaky(*(refused_connection() for _ in range(9)))
    monkeypatch.setattr(RemoteBackend, "_post", forever)
    with pytest.raises(RemoteError):
        backend._post(None, b"x")
    assert forever.calls == ATTEMPTS == 4
    # Here a job may be under way: a second submission could run it twice.
    broken = Flaky(cut_off())
    monkeypatch.setattr(RemoteBackend, "_post", broken)
    with pytest.raises(RemoteError):
        backend._post(None, b"x")
    assert broken.calls == 1


def test_a_question_after_a_job_is_repeated(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnsight.intervention.backends.remote import RemoteBackend, RemoteError

    down = httpx.HTTPStatusError(
        "503", request=httpx.Request("GET", "http://x"), response=httpx.Response(503)
    )
    poll = Flaky(httpx.ReadTimeout("slow"), down)
    monkeypatch.setattr(RemoteBackend, "poll", poll)
    backend = Backend(MODEL, host="http://127.0.0.1:9", blocking=False, job_id="f00")
    assert backend() == "done"
    assert (poll.calls, pauses) == (3, [0.5, 1.0])
    failed_job = Flaky(RemoteError("Your job exceeded the execution timeout of 30s."))
    monkeypatch.setattr(RemoteBackend, "poll", failed_job)
    with pytest.raises(NDIFError, match="was stopped by the server"):
        backend()
    assert failed_job.calls == 1
