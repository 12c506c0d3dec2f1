"""What is built holds what it needs, and runs where there is no clone beside it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from dspa_nn import __version__
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow  # builds, and starts interpreters

WANTED = (
    "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md",
    "CONTRIBUTING.md", "Makefile", "constraints.txt", "mkdocs.yml", "docs/index.md",
    "dspa_nn/assets/demo_triples.jsonl", "tests/conftest.py",
)  # fmt: skip
OUTSIDE = """
import sys
from pathlib import Path
import dspa_nn as dn
from dspa_nn.models import get_preset
home = Path(dn.__file__).parent
assert home.parent == Path(sys.argv[1]), home
triples = dn.demo_triples()
preset = get_preset("smollm2-135m-instruct")
for sae in (preset.input_sae, preset.output_sae):
    assert Path(sae).is_relative_to(home)
    assert dn.DSPA and (Path(sae) / "sae_weights.safetensors").stat().st_size > 1e6
print(dn.__version__, len(triples))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_its_assets(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        told = message_from_string(archive.read(metadata).decode())
    ours = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "dspa_nn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours <= names
    assert {name for name in names if ".dist-info/" not in name} <= ours
    assert told["Version"] == __version__
    assert told["Requires-Python"] == ">=3.11"
    assert told["License-Expression"] == "Apache-2.0"
    assert "# dspa-nn" in str(told.get_payload())


def test_it_runs_outside_of_the_clone(wheel: Path, tmp_path: Path) -> None:
    there = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(there)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(there)], capture_output=True, text=True, check=False,
        cwd=tmp_path, env={**bare, "PYTHONPATH": str(there)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    version, triples = done.stdout.split()
    assert version == __version__
    assert int(triples) >= 250


def test_the_sdist_holds_what_builds_and_documents_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(WANTED) <= names
    assert not [name for name in names if name.startswith((".venv", "site/", "dist/"))]
