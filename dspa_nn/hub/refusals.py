"""What the hub refuses, and what breaks off on the way there, each in one sentence."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from dspa_nn.errors import FileError
from dspa_nn.files import hub_patience, without_waiting

# What the hub's client raises, by the class's name, and what to do about it.
REMEDIES = {
    "RepositoryNotFoundError": "there is no such repository, or it is private and the token does "
    "not open it; check the name, or log in with `hf auth login`",
    "GatedRepoError": "its owner asks for consent; accept on its page on the hub, and log in with "
    "`hf auth login`",
    "RevisionNotFoundError": "it has no such revision; check the branch, tag or commit",
    "HFValidationError": "this is no id of a repository; write owner/name",
    "LocalEntryNotFoundError": "the hub does not answer, and its cache does not hold it; check the "
    "network, HF_HUB_OFFLINE and HF_ENDPOINT (`dspa doctor` looks at them)",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and the cache does not hold it; unset it",
}


@contextmanager
def asking(repo_id: str, what: Literal["had", "published"]) -> Generator[None]:
    """Ask the hub in the block, with limits of time, and say in one sentence what it refuses.

    >>> with asking("me/warm", "had"):
    ...     raise TimeoutError
    Traceback (most recent call last):
    dspa_nn.errors.FileError: me/warm cannot be had: the hub's client says TimeoutError; try again
    """
    try:
        with without_waiting():
            yield
    except FileError:
        raise
    except Exception as error:
        raise FileError(_refused(repo_id, what, error)) from error


def _refused(repo_id: str, what: str, error: BaseException) -> str:
    """The sentence, which holds no header and no token."""
    sent = re.search(r"Error while uploading '([^']+)'", str(error))
    if sent and error.__cause__ is not None:  # which the client says of what it raised itself
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    remedy = REMEDIES.get(type(error).__name__)
    if remedy is None and status in (401, 403):
        ask = f"the hub refuses it ({status}); log in with `hf auth login` and a token that may "
        own = "write there, or choose a repository of your own"
        remedy = ask + ("read it" if what == "had" else own)
    if remedy is None and "Invalid metadata" in str(error):
        said = " ".join(str(error).partition("README.md.")[2].split())[:300]
        remedy = (
            f"the hub does not take what its card says of it: {said or 'it gives no reason'}; "
            "licence= is the hub's short name of one, such as 'cc-by-4.0' or 'other'"
        )
    if remedy is None:
        broken = _broken_off(error, status)
        remedy = f"{broken}; try again"
        if what == "published":
            remedy = f"{broken} {_state(error, sent[1] if sent else None)}"
    return f"{repo_id} cannot be {what}: {remedy}"


def _broken_off(error: BaseException, status: int | None) -> str:
    kind = type(error).__name__
    bases = {base.__name__ for base in type(error).__mro__}
    if "TimeoutException" in bases:
        return (
            f"the hub was silent for {hub_patience():.0f} s ({kind}; HF_HUB_DOWNLOAD_TIMEOUT gives "
            "it more)"
        )
    if "TransportError" in bases:
        return f"the connection to the hub broke off ({kind})"
    return f"the hub says {kind} ({status})" if status else f"the hub's client says {kind}"


def _state(error: BaseException, file: str | None) -> str:
    """When it broke off, what the repository holds by now, and what to do; a commit is atomic."""
    request = getattr(error, "_request", None) or getattr(
        getattr(error, "response", None), "_request", None
    )
    if "/commit/" in str(getattr(request, "url", "")):
        return (
            "while the commit was made, so the repository holds all of the old files or all of the "
            "new ones; the same call can be repeated safely"
        )
    when = f"while {file} was sent" if file else "before the commit was made"
    return f"{when}, so no file there was changed; the same call can be repeated safely"
