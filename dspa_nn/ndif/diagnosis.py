"""What a remote run would meet: the server, its models, the versions on both sides, the payload."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

_COMPARED = ("nnsight", "torch", "transformers")


class Diagnosis:
    """Findings of `doctor`, one a line: a name, whether it is well, and what was found."""

    def __init__(self) -> None:
        self.findings: list[tuple[str, bool, str]] = []

    def add(self, name: str, well: bool, found: str) -> None:
        """Add one finding."""
        self.findings.append((name, well, found))

    @property
    def well(self) -> bool:
        """Whether nothing stands in the way of a remote run."""
        return all(well for _, well, _ in self.findings)

    def __str__(self) -> str:
        return "\n".join(
            f"{'ok ' if well else 'BAD'}  {name:<12} {found}" for name, well, found in self.findings
        )

    __repr__ = __str__


def doctor(dspa: Any = None, map: Any = None) -> Diagnosis:
    """Look at the configured NDIF server, and at what a run would send to it.

    Example:
        >>> print(doctor(dspa, map))

    Args:
        dspa: to look for its model among those deployed; map: to count the payload as well.

    Returns:
        Findings on host, reachable, key, models, versions and payload. The key itself is not shown.
    """
    import httpx
    from nnsight import CONFIG

    host, key = CONFIG.API.HOST, CONFIG.API.APIKEY
    found = Diagnosis()
    found.add("host", True, f"{host} (NDIF_HOST)")
    headers = {"ndif-api-key": key} if key else {}

    def ask(path: str) -> Any:
        answer = httpx.get(f"{host}{path}", headers=headers, timeout=httpx.Timeout(10, read=60))
        answer.raise_for_status()
        return answer.json()

    try:
        ask("/ping")
        found.add("reachable", True, "answers")
    except (httpx.HTTPError, ValueError) as error:
        found.add("reachable", False, f"no answer ({type(error).__name__}); try `make ndif`")
        return found
    local = "127.0.0.1" in host or "localhost" in host
    try:
        email = ask("/whoami").get("email")
    except (httpx.HTTPError, ValueError):
        email = None
    words = (
        "not set" if not key else f"set, of {email}" if email else "set, not known to the server"
    )
    found.add("key", bool(email) or local, words)
    _models(found, ask, dspa)
    _versions(found, ask)
    if dspa is not None and map is not None:
        payload = dspa.payload(map)
        found.add("payload", payload.fits, f"{payload.nbytes:,} bytes")
    return found


def _models(found: Diagnosis, ask: Any, dspa: Any) -> None:
    import httpx

    from dspa_nn.ndif.messages import readable_key

    try:
        deployments = ask("/status").get("deployments", {})
    except (httpx.HTTPError, ValueError) as error:
        found.add("models", False, f"the server does not say ({type(error).__name__})")
        return
    running = [
        name[name.index("nnsight.") :]
        for name, one in deployments.items()
        if one.get("application_state") == "RUNNING" and "nnsight." in name
    ]
    wanted = None if dspa is None else dspa.model.to_model_key()
    well = bool(running) if wanted is None else wanted in running
    words = ", ".join(readable_key(name) for name in running) or "none is deployed"
    if not well and wanted is not None:
        words += f"; wanted {readable_key(wanted)}"
    found.add("models", well, words)


def _versions(found: Diagnosis, ask: Any) -> None:
    import httpx

    try:
        there = ask("/env").get("packages", {})
    except (httpx.HTTPError, ValueError):
        there = {}
    for name in _COMPARED:
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "absent"
        other = there.get(name, "unknown")
        same = other == "unknown" or here.split("+")[0] == other.split("+")[0]
        found.add(name, same, f"{here} here, {other} there")
