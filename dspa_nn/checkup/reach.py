"""The hub and NDIF: whether they answer, asked for a few seconds."""

from typing import Any
from urllib.parse import urlsplit

from dspa_nn.checkup.findings import Findings, State
from dspa_nn.files import hub_answers
from dspa_nn.imports import untyped


def look_at_hub(findings: Findings, needed: bool) -> None:
    """Ask the hub; needed: whether something must be fetched from it.

    >>> findings = Findings()
    >>> look_at_hub(findings, needed=False)
    >>> [one.name for one in findings]
    ['hub']
    """
    constants: Any = untyped("huggingface_hub.constants")
    where = str(constants.ENDPOINT)
    if hub_answers():
        token = untyped("huggingface_hub").get_token()
        login = "logged in" if token else "not logged in, which gated models need"
        findings.add("hub", "ok", f"{where} answers; {login}")
        return
    state: State = "problem" if needed else "note"
    if constants.HF_HUB_OFFLINE:
        found, fix = "HF_HUB_OFFLINE is set, so the cache alone is read", "unset HF_HUB_OFFLINE"
    else:
        found = f"{where} does not answer within 3 seconds"
        fix = "check the network or the proxy; HF_ENDPOINT names a mirror"
    findings.add("hub", state, found, fix)


def look_at_ndif(findings: Findings, model_id: str, needed: bool, timeout: float | int) -> None:
    """Ask the NDIF server that is configured; needed: whether the run is to be a remote one.

    >>> findings = Findings()
    >>> look_at_ndif(findings, "google/gemma-2-9b", needed=False, timeout=0.2)
    >>> [one.name for one in findings]
    ['NDIF']
    """
    httpx, config = untyped("httpx"), untyped("nnsight").CONFIG.API
    state: State = "problem" if needed else "note"
    host, key = str(config.HOST), config.APIKEY
    where = urlsplit(host).hostname or host
    local = where in ("127.0.0.1", "localhost")
    headers = {"ndif-api-key": key} if key else {}

    def ask(path: str) -> Any:
        answer = httpx.get(f"{host}{path}", headers=headers, timeout=timeout)
        answer.raise_for_status()
        return answer

    try:
        ask("/ping")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        findings.add(
            "NDIF", state, f"{host} does not answer ({type(error).__name__})",
            "check the network, and the server's name in NDIF_HOST; local runs do without",
        )  # fmt: skip
        return
    if not key and not local:
        fix = "get a key from https://login.ndif.us, and set NDIF_API_KEY"
        findings.add("NDIF", state, f"{host} answers, and there is no API key", fix)
        return
    try:
        deployed: dict[str, Any] = ask("/status").json().get("deployments", {})
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        words = f"{host} answers, and does not say what it runs ({type(error).__name__})"
        findings.add("NDIF", state, words, "ask again later; `dspa ndif` looks closer")
        return
    running = [name for name, of in deployed.items() if of.get("application_state") == "RUNNING"]
    if any(model_id in name for name in running):
        findings.add("NDIF", "ok", f"{host} answers, and runs {model_id}")
    else:
        words = f"{host} answers, and runs {len(running)} models, {model_id} not among them"
        fix = "ask NDIF for it, or take a preset whose model it runs; `dspa ndif` lists them"
        findings.add("NDIF", state, words, fix)
