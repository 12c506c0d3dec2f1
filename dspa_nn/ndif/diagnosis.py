"""What stands before a remote run: server, models, versions on both sides, payload."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dspa_nn.ndif.messages import how_to_reach, is_loopback, readable_key
from dspa_nn.ndif.payload import payload_of
from dspa_nn.shipping import ShippableDSPA

_COMPARED = ("nnsight", "torch", "transformers")


class Diagnosis:
    """Findings of `doctor`, one per line: a name, whether it is well, and the details.

    Example:
        >>> diagnosis = Diagnosis()
        >>> diagnosis.add("host", True, "http://127.0.0.1:8001")
        >>> print(diagnosis, diagnosis.well)
        ok   host         http://127.0.0.1:8001 True
    """

    def __init__(self) -> None:
        self.findings: list[tuple[str, bool, str]] = []

    def add(self, name: str, well: bool, details: str) -> None:
        """Add one finding."""
        self.findings.append((name, well, details))

    @property
    def well(self) -> bool:
        """Whether nothing stands in the way of a remote run."""
        return all(well for _, well, _ in self.findings)

    def __str__(self) -> str:
        return "\n".join(
            f"{'ok ' if well else 'BAD'}  {name:<12} {details}"
            for name, well, details in self.findings
        )

    __repr__ = __str__


def doctor(
    dspa: ShippableDSPA | None = None, map: object = None, *, timeout: float | int | None = None
) -> Diagnosis:
    """Look at the configured NDIF server, and at what a run would send to it.

    Example:
        >>> print(doctor(dspa, map))  # doctest: +SKIP
        ok   host         http://127.0.0.1:8001 (NDIF_HOST)
        ok   reachable    answers

    (A server is needed, so this is not run as a test.)

    Args:
        dspa: to look for its model among those deployed.
        map: a map or plans, to count the payload as well.
        timeout: seconds for each answer; 10 to connect and 60 to read where it is left out.

    Returns:
        Findings on host, reachable, key, models, versions and payload. The key itself is not shown.
    """
    import httpx
    from nnsight import CONFIG

    host, key = CONFIG.API.HOST, CONFIG.API.APIKEY
    patience = httpx.Timeout(10, read=60) if timeout is None else httpx.Timeout(timeout)
    diagnosis = Diagnosis()
    diagnosis.add("host", True, f"{host} (NDIF_HOST)")
    headers = {"ndif-api-key": key} if key else {}

    def ask(path: str) -> Any:
        answer = httpx.get(f"{host}{path}", headers=headers, timeout=patience)
        answer.raise_for_status()
        return answer.json()

    try:
        ask("/ping")
        diagnosis.add("reachable", True, "answers")
    except (httpx.HTTPError, ValueError) as error:
        said = f"no answer ({type(error).__name__}); {how_to_reach(host)}"
        diagnosis.add("reachable", False, said)
        return diagnosis
    try:
        email: str | None = ask("/whoami").get("email")
    except (httpx.HTTPError, ValueError):
        email = None
    words = (
        "not set" if not key else f"set, of {email}" if email else "set, not known to the server"
    )
    diagnosis.add("key", bool(email) or is_loopback(host), words)
    _models(diagnosis, ask, dspa)
    _versions(diagnosis, ask)
    if dspa is not None and map is not None:
        payload = payload_of(dspa, map)
        diagnosis.add("payload", payload.fits, f"{payload.nbytes:,} bytes")
    return diagnosis


def _models(diagnosis: Diagnosis, ask: Callable[[str], Any], dspa: Any) -> None:
    import httpx

    try:
        deployments: dict[str, dict[str, Any]] = ask("/status").get("deployments", {})
    except (httpx.HTTPError, ValueError) as error:
        diagnosis.add("models", False, f"the server does not say ({type(error).__name__})")
        return
    running = [
        name[name.index("nnsight.") :]
        for name, deployment in deployments.items()
        if deployment.get("application_state") == "RUNNING" and "nnsight." in name
    ]
    wanted = None if dspa is None else dspa.model.to_model_key()
    well = bool(running) if wanted is None else wanted in running
    words = ", ".join(readable_key(name) for name in running) or "none is deployed"
    if not well and wanted is not None:
        words += f"; wanted {readable_key(wanted)}"
    diagnosis.add("models", well, words)


def _versions(diagnosis: Diagnosis, ask: Callable[[str], Any]) -> None:
    import httpx

    try:
        there: dict[str, str] = ask("/env").get("packages", {})
    except (httpx.HTTPError, ValueError):
        there = {}
    for name in _COMPARED:
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "absent"
        other = there.get(name, "unknown")
        same = other == "unknown" or here.split("+")[0] == other.split("+")[0]
        diagnosis.add(name, same, f"{here} here, {other} there")
