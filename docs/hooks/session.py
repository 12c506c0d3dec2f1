"""A process for the code blocks of one page: its time is limited, its memory measured."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
DEFAULT_LIMIT = 300  # seconds a session
PATIENCE = float(os.environ.get("DOCS_PATIENCE", "1"))  # of a machine that does other things, too


class Session:
    """The process in which the blocks of one page run, one after the other; begun by the first."""

    def __init__(self, limit: float = DEFAULT_LIMIT) -> None:
        limit *= PATIENCE
        self.limit, self.left = limit, limit
        self.gigabytes = 0.0
        self.failed = False
        self.blocks = 0
        self.process: subprocess.Popen[str] | None = None

    def begin(self) -> subprocess.Popen[str]:
        self.noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the session)
        self.folder = tempfile.TemporaryDirectory()  # what a page writes goes away with it
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.noise,
            text=True,
            cwd=self.folder.name,
            env=os.environ
            | {
                "PYTHONPATH": str(REPOSITORY),
                "COLUMNS": "80",
                "MPLBACKEND": "agg",
                "MATPLOTLIBRC": str(HERE / "matplotlibrc"),
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        return self.process

    @property
    def seconds(self) -> float:
        return self.limit - self.left

    def run(self, code: str, file: str | None = None, line: int = 1) -> dict[str, Any]:
        """Run a block; `error` in what comes back is None, or says what happened."""
        self.blocks += 1
        asked = {"code": code, "file": file or f"<block {self.blocks}>", "line": line}
        start = time.monotonic()
        process = self.process or self.begin()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self.left)
        answer = process.stdout.readline() if ready else ""
        self.left -= time.monotonic() - start
        if answer:
            result = json.loads(answer)
            self.gigabytes = result["gigabytes"]
        elif ready:
            result = {"error": f"the process ended: {self.last_noise()}"}
        else:
            result = {"error": f"stopped: it took longer than {self.limit:.0f} seconds"}
        self.failed = result["error"] is not None
        return result

    def last_noise(self) -> str:
        self.noise.seek(0)
        return self.noise.read()[-2000:]

    def close(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.communicate()
        self.noise.close()
        self.folder.cleanup()
