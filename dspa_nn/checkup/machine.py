"""The machine: its memory and its disk, against what a preset needs."""

import os
import shutil
from pathlib import Path
from typing import Any

from dspa_nn.checkup.findings import Findings
from dspa_nn.costs import PresetNeeds
from dspa_nn.imports import untyped


def in_gb(nbytes: int) -> str:
    """Bytes as a person reads them.

    >>> in_gb(24_800_000_000), in_gb(40_000_000)
    ('24.8 GB', '0.04 GB')
    """
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e9:.2f} GB"


def free_memory() -> int | None:
    """Bytes of memory that a new program could have, or None where the system does not say.

    >>> free_memory() is None or free_memory() > 0
    True
    """
    about = Path("/proc/meminfo")
    if about.is_file():
        for line in about.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _limit() or 1 << 62)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _limit() -> int | None:
    """What a container may have, of which /proc/meminfo knows nothing."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return int(text) if text.isdecimal() else None
    except OSError:
        return None


def look_at_memory(findings: Findings, needs: PresetNeeds, remote: bool) -> None:
    """Memory of the GPU, else of the machine, against what the preset needs.

    >>> findings = Findings()
    >>> from dspa_nn.costs import preset_needs
    >>> look_at_memory(findings, preset_needs("smollm2-135m-instruct"), remote=False)
    >>> {one.name for one in findings} <= {"GPU", "memory"}
    True
    """
    cuda: Any = untyped("torch").cuda
    wanted = needs.memory()
    less = (
        "fewer answers at once and shorter ones need less; --remote runs the model on NDIF; or "
        "take a smaller preset"
    )
    if cuda.is_available():
        free, whole = cuda.mem_get_info()
        found = f"{cuda.get_device_name(0)}, {in_gb(free)} of {in_gb(whole)} free"
        enough = free >= wanted or remote
        words = f"{found}; {needs.preset} needs {in_gb(wanted)} in bfloat16"
        findings.add("GPU", "ok" if enough else "problem", words, None if enough else less)
        return
    findings.add(
        "GPU", "note" if needs.weights > 2e9 and not remote else "ok",
        "none that torch can use; the model runs on the CPU",
        "install torch for CUDA on a machine with a GPU, or run with --remote"
        if needs.weights > 2e9 and not remote else None,
    )  # fmt: skip
    free = free_memory()
    if free is None:
        findings.add("memory", "ok", f"not told by the system; {in_gb(wanted)} are needed")
        return
    # On a CPU the weights are float32 more often than not, which is the safe side.
    wanted += needs.weights
    enough = free >= wanted or remote
    words = f"{in_gb(free)} free; {needs.preset} needs {in_gb(wanted)} in float32"
    findings.add("memory", "ok" if enough else "problem", words, None if enough else less)


def look_at_disk(findings: Findings, folder: Path, wanted: int, what: str) -> None:
    """Free bytes where downloads go.

    >>> findings = Findings()
    >>> look_at_disk(findings, Path("."), 1, "the model")
    >>> [one.state for one in findings]
    ['ok']
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    free = shutil.disk_usage(there).free
    enough = free >= wanted
    words = f"{in_gb(free)} free in {folder}" + (
        f"; {what} to fetch are {in_gb(wanted)}" if wanted else ""
    )
    fix = None if enough else "free some, or name another disk with HF_HOME and DSPA_CACHE"
    findings.add("disk", "ok" if enough else "problem", words, fix)
