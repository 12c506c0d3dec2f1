"""The whole check: one preset on this machine."""

from pathlib import Path

from dspa_nn.checkup.files import look_at_model, look_at_saes
from dspa_nn.checkup.findings import Findings
from dspa_nn.checkup.machine import look_at_disk, look_at_memory
from dspa_nn.checkup.reach import look_at_hub, look_at_ndif
from dspa_nn.checkup.versions import look_at_versions
from dspa_nn.costs import preset_needs
from dspa_nn.files import cache_dir
from dspa_nn.imports import untyped
from dspa_nn.models import REPO_ID, get_preset


def check_up(
    preset: str = "smollm2-135m-instruct", *, remote: bool = False, timeout: float | int = 5.0
) -> Findings:
    """Look at what a preset needs on this machine; nothing is loaded or fetched.

    >>> findings = check_up("gemma-2-9b", timeout=0.2)
    >>> [one.name for one in findings if one.state == "ok"][0]
    'python'

    Args:
        preset: what is to be run.
        remote: whether it is to run on NDIF, which needs no weights or memory here.
        timeout: seconds that NDIF may take for an answer. The hub has three.

    Returns:
        What was found, with the fix of each problem. Keys and tokens are not shown.

    Raises:
        DSPAError: no such preset.
    """
    known, needs = get_preset(preset), preset_needs(preset)
    findings = Findings()
    look_at_versions(findings)
    fetch_model = look_at_model(findings, known, remote)
    fetch_saes = look_at_saes(findings, known)
    embedded = known.model_id == REPO_ID
    look_at_hub(findings, needed=fetch_saes or (fetch_model and not embedded))
    look_at_ndif(findings, known.model_id, remote, timeout)
    look_at_memory(findings, needs, remote)
    hub = Path(str(untyped("huggingface_hub.constants").HF_HUB_CACHE))
    saes = 2 * needs.saes if fetch_saes else 0
    wanted = (needs.weights if fetch_model else 0) + saes
    look_at_disk(findings, cache_dir() if embedded else hub, wanted, "the files")
    return findings
