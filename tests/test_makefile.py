"""`make` takes any Python from 3.11 on, 3.11 where there is a choice, and says which is tested."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PYTHON = """#!/bin/bash
version={minor}
case "$*" in
  *"sys.version_info < (3, 11)"*) exit $((version < 11)) ;;
  *"!= (3, 11)"*) exit $((version != 11)) ;;
  --version) echo "Python 3.$version.1" ;;
  "-m venv"*) mkdir -p "$3/bin"; echo "3.$version" > "$3/bin/python" ;;
esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(
    ("minors", "taken"),
    [((10, 11, 13), 11), ((12, 13), 12), ((9,), None), ((), None)],
)
def test_which_python_is_taken(minors: tuple[int, ...], taken: int | None, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "cksum", "cut", "cat", "mkdir", "make"):
        (tools / name).symlink_to(str(shutil.which(name)))
    for minor in minors:
        path = tools / f"python3.{minor}"
        path.write_text(PYTHON.format(minor=minor))
        path.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    told = subprocess.run(
        ["make", ".venv/bin/python"],
        cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if taken is None:
        assert told.returncode
        assert told.stderr.startswith("Python 3.11 or later is needed, and there is none on the")
        return
    assert (tmp_path / ".venv/bin/python").read_text() == f"3.{taken}\n"
    assert ("only Python 3.11 is tested" in told.stderr) == (taken != 11)
