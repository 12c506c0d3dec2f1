"""Killed and resumed, on a disk that ran full: the tiny model's map, byte for byte."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import durability
from dspa_nn import FileError
from dspa_nn.counts import CountRun
from dspa_nn.files import atomic, read_pair
from tests import steer_zoo

BUDGET = 40
REPOSITORY = Path(__file__).parents[2]


def job() -> durability.Job:
    lab = steer_zoo.lab("llama", "add")
    return durability.job_of(CountRun(lab.dspa, lab.triples, token_budget=BUDGET))


def main(folder: str, kills: int) -> None:
    """What the test runs where nothing but the count can be forked; prints the rows as JSON."""
    print(json.dumps(durability.killed(job(), Path(folder), kills)))


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from tests.files.test_durability import main; main({str(tmp_path)!r}, 6)",
        ],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [row["kills"] for row in rows] == [6, 6]
    assert all(row["identical"] == row["runs finished"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("write", [0, 1, 4, 7, 10])
def test_a_disk_that_is_full_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    run = job()
    run(tmp_path / "whole")
    wanted = durability.contents(tmp_path / "whole")
    place, synced = tmp_path / "run", []
    sync: Callable[[int], Any] = os.fsync

    def full(handle: int) -> None:
        synced.append(handle)
        if len(synced) > write:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)  # so much went in
            raise OSError(28, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        # Not the folders, whose sync is no write.
        patch.setattr(atomic, "sync_folder", lambda folder: None)
        patch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match=r"could not be written \(No space left on device\), a"):
            run(place)
    assert len(synced) == write + 1
    left = durability.contents(place)
    assert not [name for name in left if name.endswith(".tmp")]
    # What lies there is whole: pairs of two, and each of them is read.
    for path in place.rglob("*.json"):
        read_pair(path.parent, path.stem, version=1)
    assert len(list(place.rglob("*.safetensors"))) == len(list(place.rglob("*.json")))
    run(place)
    durability.compare(place, wanted)


def test_a_run_that_is_not_the_same_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    durability.compare(tmp_path, {"a": b"1"})
    with pytest.raises(durability.Lost, match="other bytes in a"):
        durability.compare(tmp_path, {"a": b"2"})
    with pytest.raises(durability.Lost, match="files that only one of the two runs has: a, b"):
        durability.compare(tmp_path, {"b": b"1"})
