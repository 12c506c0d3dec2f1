"""What stands between this machine and a run: versions, model and SAEs, hub, NDIF, memory."""

from dspa_nn.checkup.findings import Finding, Findings
from dspa_nn.checkup.run import check_up

__all__ = ["Finding", "Findings", "check_up"]
