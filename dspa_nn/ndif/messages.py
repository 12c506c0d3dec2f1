"""What went wrong on the way to NDIF or there, as one sentence with what to do."""

import ipaddress
import json
import re
from typing import Any
from urllib.parse import urlsplit

from dspa_nn import errors
from dspa_nn.errors import DSPAError, NDIFError
from dspa_nn.graph.refusals import REFUSALS
from dspa_nn.ndif.adapter import RemoteError

# What shipped code raises, by name: the refusal, or where the server has the toolkit, the error.
_errors: dict[str, type[DSPAError]] = {
    kind.__name__: getattr(errors, kind.error.rpartition(".")[2]) for kind in REFUSALS
}
_REFUSALS = _errors | {error.__name__: error for error in _errors.values()}
# NDIF's words for jobs that it gave up through no fault of theirs.
_SHED = ("evicted", "Error submitting request", "Critical server error")
_NOT_DEPLOYED = ("deploy", "evaluat", "provision", "replica")
_LAST_LINE = re.compile(r"^(?:[\w.]*\.)?(\w+(?:Error|Refusal|Exception|Interrupt)\w*): ?(.*)$")


def explain(error: BaseException, host: str, api_key: str, model_key: str) -> DSPAError:
    """Return the error that a user sees in the place of one of nnsight's, httpx' or websocket's.

    >>> print(explain(ConnectionRefusedError("refused"), "http://127.0.0.1:9", "", "a/b"))
    no NDIF server answers at http://127.0.0.1:9 (refused); set NDIF_HOST to a server that ...
    """
    if isinstance(error, DSPAError):
        return error
    name, text = type(error).__name__, str(error)
    if api_key:
        text = text.replace(api_key, "<api key>")
    cause = error.__cause__
    if isinstance(error, RemoteError):
        if cause is not None:
            return _submission(cause, text, host)
        return _job(text, host, model_key)
    module = type(error).__module__
    if module.startswith("websocket"):
        if "Closed" in name or "lost" in text:
            return _lost(host)
        return _unreachable(host, text)
    if isinstance(error, OSError) or module.startswith(("httpx", "httpcore")):
        return _unreachable(host, text or name)
    if name in ("PicklingError", "TypeError", "AttributeError") and "pickle" in text.lower():
        return NDIFError(
            f"something that the block uses cannot be sent to the server ({text}); keep files, "
            "locks, generators and loaded models out of the block"
        )
    if name in ("ValidationError", "JSONDecodeError"):
        return _lost(host)
    return NDIFError(
        f"the remote run failed on this machine with {name}: {_one_line(text)}; "
        "dspa_nn.doctor() looks at the server and the versions on both sides"
    )


def _passing(text: str) -> NDIFError:
    error = NDIFError(text)
    error.passing = True
    return error


def _unreachable(host: str, text: str) -> NDIFError:
    return _passing(f"no NDIF server answers at {host} ({_one_line(text)}); {how_to_reach(host)}")


def how_to_reach(host: str) -> str:
    """What to do where no server answers: only on this machine can one be started.

    >>> how_to_reach("https://api.ndif.us")
    'check the network, or set NDIF_HOST to a server that answers'
    """
    if is_loopback(host):
        return (
            "set NDIF_HOST to a server that answers, or start one on this machine with `make ndif` "
            "in a checkout of dspa-nn"
        )
    return "check the network, or set NDIF_HOST to a server that answers"


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> is_loopback("http://127.0.0.1:8001"), is_loopback("https://localhost.example.org")
    (True, False)
    """
    try:
        name = urlsplit(host if "//" in host else f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:  # a name, not a number; or no address at all
        return False


def _lost(host: str) -> NDIFError:
    return _passing(
        f"the server at {host} went away while the job was running, and whether it finished is not "
        "known; once the server answers again, run the block again"
    )


def _submission(cause: BaseException, text: str, host: str) -> NDIFError:
    response: Any = getattr(cause, "response", None)
    status = getattr(response, "status_code", None)
    detail = _one_line(text.removeprefix("Failed to send request: "))
    if status is None:
        if type(cause).__name__ in ("ConnectError", "ConnectTimeout"):
            return _unreachable(host, detail)
        return NDIFError(
            f"the connection to {host} broke while the request was sent ({detail}), and whether "
            "the server took it is not known; run the block again if a second run does no harm"
        )
    if status in (401, 403) or (status == 400 and "key" in detail.lower()):
        return NDIFError(
            f"the server at {host} refused the API key (HTTP {status}: {detail}); set NDIF_API_KEY "
            "to a key from https://login.ndif.us"
        )
    if status == 400 and "version" in detail.lower():
        return NDIFError(
            f"the server at {host} does not take this client's versions (HTTP 400: {detail}); "
            "install the versions that dspa_nn.doctor() shows for the server"
        )
    if status == 413 or "parsing the body" in detail:
        return NDIFError(
            f"the server at {host} could not take a request of this size (HTTP {status}: "
            f"{detail}); see dspa.payload(map), and send less: payload_dtype='bfloat16', or "
            "narrower SAEs"
        )
    if status == 503:
        return _passing(
            f"the server at {host} has no compute behind it at the moment (HTTP 503: {detail}); "
            "try again in a few minutes"
        )
    return NDIFError(f"the server at {host} did not take the request (HTTP {status}: {detail})")


def _job(text: str, host: str, model_key: str) -> DSPAError:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    for line in reversed(lines):
        raised = _LAST_LINE.match(line.strip())
        if raised and raised[1] in _REFUSALS:
            return _REFUSALS[raised[1]](raised[2])
    plain = _one_line(text)
    if "execution timeout" in plain:
        return NDIFError(
            f"the job was stopped by the server ({plain}); generate fewer tokens, or give "
            "it smaller batches"
        )
    if "cancelled" in plain.lower() or "preempted" in plain.lower():
        return NDIFError(
            f"the job was cancelled on the server ({plain}); run the block again if that was not "
            "meant"
        )
    if "payload could not be read" in plain or "architecture on this server" in plain:
        return NDIFError(
            f"client and server do not fit together ({plain}); install the versions that "
            "dspa_nn.doctor() shows for the server"
        )
    if "Traceback" in text and 'File "' in text and _frames(lines):
        return NDIFError(_users_lines(lines))
    if any(word in plain for word in _SHED):
        return _passing(
            f"the server at {host} lost the job before it was done ({plain}); nothing came back, "
            "so run the block again"
        )
    if "Traceback" in text or any(word in plain.lower() for word in _NOT_DEPLOYED):
        return NDIFError(
            f"the server at {host} does not run {readable_key(model_key)} "
            f"({_one_line(lines[-1]) if lines else plain}); "
            "dspa_nn.doctor() lists what it runs: model, revision and task must be the same"
        )
    return NDIFError(f"the server at {host} ended the job: {plain}")


def _frames(lines: list[str]) -> list[str]:
    """Return the user's frames of a traceback, each with its line of code."""
    frames: list[str] = []
    for index, line in enumerate(lines):
        frame = re.match(r'\s*File "(?!\[)(.*)", line (\d+), in (.*)', line)
        if frame and "/site-packages/" not in frame[1] and "/lib/python" not in frame[1]:
            code = lines[index + 1].strip() if index + 1 < len(lines) else ""
            frames.append(f"{frame[1]}, line {frame[2]}: {code}")
    return frames


def _users_lines(lines: list[str]) -> str:
    return f"the block raised {_one_line(lines[-1].strip())} on the server at {_frames(lines)[-1]}"


def readable_key(model_key: str) -> str:
    """Return a model key as a person reads it: id, task and revision.

    >>> readable_key('TransformersModel:{"repo_id": "a/b", "task": "text-generation"}')
    'a/b (text-generation, revision main)'
    """
    try:
        key = json.loads(model_key.partition(":")[2])
    except ValueError:
        return model_key
    return f"{key.get('repo_id')} ({key.get('task')}, revision {key.get('revision') or 'main'})"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400].rstrip(".")
