"""`~` is the home folder wherever a path is taken, and what is no path is refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest

from dspa_nn import ConditionalDifferenceMap, FileError
from dspa_nn.counts import ActivationCounts, CountRun, merge_shards, shard_folder
from dspa_nn.files import as_path, write_atomically
from dspa_nn.ndif import Job
from dspa_nn.saes import load_sae
from tests import steer_zoo


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_home(home: Path) -> None:
    lab = steer_zoo.lab("llama", "add")
    run = CountRun(lab.dspa, lab.triples)
    counts = lab.dspa.count(lab.triples, progress=False, checkpoint="~/run")
    counts.save("~/counts")
    lab.map.save(Path("~/map"))
    run.keep("~/shards", shards=1, progress=False, checkpoint="~/parts")
    Job("f00", "http://127.0.0.1:8001").save("~/job.json")
    write_atomically("~/notes.txt", "x")
    names = {path.name for path in home.iterdir()}
    assert names == {"run", "counts", "map", "shards", "job.json", "notes.txt"}
    assert (home / "run" / "chunk-00000").is_dir()
    assert len(ActivationCounts.load("~/counts")) == len(counts) == len(merge_shards("~/shards"))
    assert ConditionalDifferenceMap.load("~/map").n_triples == lab.map.n_triples
    assert Job.load("~/job.json").job_id == "f00"
    assert shard_folder("~/shards", 0, 1).is_dir()


def test_an_sae_at_home(home: Path) -> None:
    from dspa_nn.models import get_preset

    (home / "sae").symlink_to(get_preset("smollm2-135m-instruct").input_sae)
    assert load_sae("~/sae").layer == 9


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/x", "", " ", 3, None])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(FileError, match="is no path"):
        as_path(path)
