"""A Python in which the toolkit is not installed, as on an NDIF server."""

import os
import subprocess
import sys
from pathlib import Path

HIDE = """
import sys
class Hide:
    def find_spec(self, name, *rest):
        if name.split('.')[0] in ('dspa_nn', 'sae_lens', 'jaxtyping', 'beartype', 'users_sae'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import nnsight
from nnsight.intervention.serialization import loads
sent = loads(open(sys.argv[1], 'rb').read())
"""


def run_elsewhere(
    code: str, sent: object, folder: Path, *arguments: str, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Send a value as nnsight does, and run code on it, which calls it `sent`, over there.

    folder: where the pickled value is put; arguments: `sys.argv[2:]`; path: PYTHONPATH.
    """
    from nnsight.intervention.serialization import dumps

    (folder / "blob").write_bytes(dumps(sent))
    return subprocess.run(
        [sys.executable, "-c", HIDE + code, str(folder / "blob"), *arguments],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
