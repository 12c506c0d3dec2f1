"""The Slurm recipe: bash reads it, and the command that each task runs is one that `dspa` takes."""

import os
import subprocess
from pathlib import Path

import pytest

from dspa_nn import ActivationCounts, ConditionalDifferenceMap
from tests.cli.test_cli import dspa, source, tiny_preset
from tests.conftest import REPOSITORY

__all__ = ["source", "tiny_preset"]  # fixtures

SCRIPT = REPOSITORY / "recipes" / "slurm_fit.sh"
ARRAY = {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "2", "SLURM_ARRAY_TASK_COUNT": "3"}


class Cluster:
    """Runs the script as a task would, with a `dspa` that writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        stub = folder / "bin" / "dspa"
        stub.parent.mkdir()
        stub.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{self.calls}'\n")
        stub.chmod(0o755)
        self.path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"

    def run(self, *arguments: object, **slurm: str) -> subprocess.CompletedProcess:
        self.calls.unlink(missing_ok=True)
        return subprocess.run(
            ["bash", SCRIPT, *map(str, arguments)],
            env={"PATH": self.path, **slurm},
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


def test_bash_reads_the_script():
    done = subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(SCRIPT, os.X_OK)
    # What Slurm reads must come before the first command.
    lines = SCRIPT.read_text().splitlines()
    directives = [place for place, line in enumerate(lines) if line.startswith("#SBATCH")]
    first = next(place for place, line in enumerate(lines) if line and not line.startswith("#"))
    assert directives
    assert max(directives) < first


@pytest.mark.usefixtures("tiny_preset")
def test_what_the_tasks_run_counts_the_source_whole(cluster, source, tmp_path):
    counts = tmp_path / "counts with a blank"
    for task in ("1", "0", "2"):
        done = cluster.run(source, counts, "--no-chat", SLURM_ARRAY_TASK_ID=task, **ARRAY)
        assert done.returncode == 0, done.stderr
        counted = dspa(*cluster.called())
        assert counted.exit_code == 0, counted.output
    names = {folder.name for folder in counts.glob("shard-*")}
    assert names == {f"shard-{task:05d}-of-00003" for task in range(3)}
    assert sum(len(ActivationCounts.load(counts / name)) for name in names) == 12
    merged = dspa("merge", counts, "--out", tmp_path / "map", "--percentile", 50)
    assert merged.exit_code == 0, merged.output
    whole = dspa("fit", source, "--out", tmp_path / "whole", "--no-chat", "--percentile", 50)
    assert whole.exit_code == 0, whole.output
    one, other = (ConditionalDifferenceMap.load(tmp_path / name) for name in ("map", "whole"))
    assert (one.to_dense() == other.to_dense()).all()

    # Submitted again, a task that is done starts nothing.
    again = cluster.run(source, counts, "--no-chat", SLURM_ARRAY_TASK_ID="1", **ARRAY)
    assert again.returncode == 0
    assert "is there already" in again.stdout
    assert not cluster.calls.exists()


def test_some_tasks_again_need_the_number_of_all_shards(cluster, tmp_path):
    some = {
        "SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_MAX": "5",
        "SLURM_ARRAY_TASK_COUNT": "2",
    }  # fmt: skip
    refused = cluster.run("triples.jsonl", tmp_path / "counts", **some)
    assert refused.returncode == 2
    assert "--array=2-5 has 2 task(s)" in refused.stderr
    assert "DSPA_SHARDS" in refused.stderr
    assert not cluster.calls.exists()
    done = cluster.run("triples.jsonl", tmp_path / "counts", DSPA_SHARDS="8", **some)
    assert done.returncode == 0, done.stderr
    called = cluster.called()
    assert called[called.index("--shards") + 1] == "8"
    assert called[called.index("--shard") + 1] == "5"


@pytest.mark.parametrize(
    ("arguments", "slurm", "sentence"),
    [
        (("triples.jsonl",), {}, "usage: sbatch"),
        (("triples.jsonl", "counts"), {}, "submit this script with sbatch"),
        (("triples.jsonl", "counts"), {"SLURM_ARRAY_TASK_ID": "0"}, "give DSPA_SHARDS"),
    ],
)
def test_what_is_missing_is_said(cluster, arguments, slurm, sentence):
    done = cluster.run(*arguments, **slurm)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert not cluster.calls.exists()
