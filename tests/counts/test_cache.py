"""Counts that `fit` keeps: nothing is counted twice, and nothing is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn import CountsError, DSPAWarning, SteeringError
from dspa_nn.counts import cache, clear_counts, counts_folder, kept_counts
from dspa_nn.counts.passes import LocalRunner
from tests import steer_zoo
from tests.steer_zoo import Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The chunks that a model was run for."""
    ran: list[int] = []
    submit = LocalRunner.submit

    def noting(self: LocalRunner, number: int) -> None:
        ran.append(number)
        submit(self, number)

    monkeypatch.setattr(LocalRunner, "submit", noting)
    return ran


def fit(lab: Lab, **options: Any) -> dn.ConditionalDifferenceMap:
    settings: dict[str, Any] = {"token_budget": 64, "percentile": 50}
    return lab.dspa.fit(lab.triples, **(settings | options))


def test_the_next_equal_fit_reads_what_the_first_one_counted(
    lab: Lab, passes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(lab)
    assert passes
    [entry] = kept_counts()
    told = capsys.readouterr().err
    assert told.strip() == f"counts of 12 triples are kept in {entry.folder} ({entry.size})"
    passes.clear()
    again = fit(lab, percentile=75, sparsify="none")
    assert not passes
    told = capsys.readouterr().err
    assert told.strip() == (
        f"counts of 12 triples are read again from {entry.folder} ({entry.size})"
    )
    wanted = lab.dspa.count(lab.triples, token_budget=64, progress=False)
    assert torch.equal(again.to_dense(), wanted.fit(percentile=75, sparsify="none").to_dense())
    assert torch.equal(first.to_dense(), wanted.fit(percentile=50).to_dense())
    assert again.provenance == wanted.fit(percentile=75).provenance
    assert sorted(path.name.partition("-")[0] for path in entry.folder.iterdir()) == [
        "counts", "counts.json",
    ]  # fmt: skip
    fit(lab, progress=False)
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_what_counts_depend_on_is_counted_anew(lab: Lab, passes: list[int]) -> None:
    fit(lab)
    other = steer_zoo.lab("llama", "add", "standard")
    changes: list[tuple[Lab, Any, dict[str, Any]]] = [
        (lab, lab.triples[1:], {}),
        (lab, lab.triples, {"token_budget": 128}),
        (other, lab.triples, {}),
    ]
    for number, (own, triples, options) in enumerate(changes, 2):
        passes.clear()
        settings: dict[str, Any] = {"token_budget": 64}
        own.dspa.fit(triples, **(settings | options))
        assert passes
        assert len(kept_counts()) == number
    with torch.no_grad():
        weight = lab.hf.model.layers[0].mlp.up_proj.weight
        before = weight.clone()  # adding 1 and taking it away is not exact
        weight.add_(1)
        try:
            passes.clear()
            fit(lab)
            assert passes
        finally:
            weight.copy_(before)


def test_where_triples_came_from_makes_no_difference(
    lab: Lab, passes: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "triples.jsonl"
    path.write_text("\n".join(json.dumps(vars(triple)) for triple in lab.triples))
    fit(lab)
    passes.clear()
    loaded = dn.load_triples(path)
    map = lab.dspa.fit(loaded, token_budget=64)
    assert not passes
    assert map.provenance["data_sha256"] == loaded.sha256


def test_a_fit_that_fails_costs_no_second_run(
    lab: Lab, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("dspa_nn.counts.table.fit_map", fails)
    with pytest.raises(MemoryError):
        fit(lab)
    monkeypatch.undo()
    assert kept_counts()[0].finished
    ran: list[int] = []
    monkeypatch.setattr(LocalRunner, "submit", lambda self, number: ran.append(number))
    assert fit(lab).n_triples == 12
    assert not ran


def test_a_run_that_was_stopped_goes_on(
    lab: Lab, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = LocalRunner.submit

    def stops(self: LocalRunner, number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt
        submit(self, number)

    monkeypatch.setattr(LocalRunner, "submit", stops)
    with pytest.raises(KeyboardInterrupt):
        fit(lab)
    [entry] = kept_counts()
    assert not entry.finished
    assert str(entry).endswith("not finished")
    monkeypatch.setattr(LocalRunner, "submit", submit)
    passes.clear()
    done: list[int] = []
    monkeypatch.setattr(
        LocalRunner, "submit", lambda self, number: (done.append(number), submit(self, number))
    )
    fit(lab)
    assert done
    assert min(done) == 2
    assert kept_counts()[0].finished


def test_nothing_is_kept_where_nobody_wants_it(lab: Lab, passes: list[int]) -> None:
    fit(lab, cache=False)
    assert passes
    assert not kept_counts()
    fit(lab)
    passes.clear()
    fit(lab, cache=False)
    assert passes
    lab.dspa.count(lab.triples, token_budget=32, progress=False)
    assert len(kept_counts()) == 1
    with pytest.raises(dn.MapError, match="cache is 'no', of type str; expected bool"):
        fit(lab, cache="no")


def test_a_checkpoint_of_the_users_stays_his(lab: Lab, passes: list[int], tmp_path: Path) -> None:
    fit(lab, checkpoint=tmp_path / "run")
    chunks = sorted((tmp_path / "run").glob("chunk-*"))
    assert len(chunks) == len(passes)
    passes.clear()
    fit(lab)
    assert not passes


@pytest.mark.parametrize("damage", ["cut", "tensors", "json"])
def test_what_was_changed_is_counted_again_with_a_word(
    lab: Lab, passes: list[int], damage: str
) -> None:
    wanted = fit(lab).to_dense()
    folder = kept_counts()[0].folder
    [tensors] = folder.glob("*.safetensors")
    if damage == "tensors":
        tensors.write_bytes(tensors.read_bytes()[:-3] + b"abc")
    elif damage == "cut":
        tensors.unlink()
    else:
        (folder / "counts.json").write_text("{")
    passes.clear()
    with pytest.warns(DSPAWarning, match="^counts that were kept are counted again: "):
        again = fit(lab)
    assert passes
    assert torch.equal(again.to_dense(), wanted)
    passes.clear()
    fit(lab)
    assert not passes


def test_a_damaged_part_is_counted_again(
    lab: Lab, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(lab).to_dense()
    folder = kept_counts()[0].folder
    clear_counts()
    save = dn.ActivationCounts.save

    def unsaved(self: Any, where: Path) -> None:
        if Path(where) == folder:
            raise KeyboardInterrupt
        save(self, where)

    monkeypatch.setattr(dn.ActivationCounts, "save", unsaved)
    with pytest.raises(KeyboardInterrupt):
        fit(lab)
    monkeypatch.undo()
    [part, *_] = sorted((folder / "parts").glob("chunk-*"))
    (part / "counts.json").write_text("{}")
    with pytest.warns(DSPAWarning, match="^a part that was kept is counted again: "):
        assert torch.equal(fit(lab).to_dense(), whole)


def test_a_full_disk_costs_no_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise dn.FileError("the disk is full.")

    monkeypatch.setattr("dspa_nn.counts.table.write_pair", full)
    with pytest.warns(DSPAWarning) as heard:
        assert fit(lab).n_triples == 12
    texts = [str(one.message) for one in heard]
    assert texts[0] == "the run goes on without keeping its parts: the disk is full."
    assert texts[-1] == "these counts could not be kept for a next fit: the disk is full."


def test_a_folder_that_cannot_be_made(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DSPA_CACHE", str(tmp_path / "file"))
    with pytest.warns(DSPAWarning, match=r"counts cannot be kept in .*/file/counts \("):
        assert fit(lab).n_triples == 12


@pytest.mark.slow
def test_two_processes_count_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    # Another process holds the entry, and counts into it before it lets go.
    fit(lab)
    folder = kept_counts()[0].folder
    code = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1])\n"
        "lock.acquire(); print('held', flush=True); time.sleep(1); lock.release()"
    )
    lock = str(folder.with_name(f"{folder.name}.lock"))
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert not clear_counts()
        capsys.readouterr()
        fit(lab)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "another process is counting the same triples; waiting for it"
    assert lines[1].startswith("counts of 12 triples are read again from ")


def test_listing_and_clearing(lab: Lab) -> None:
    assert repr(kept_counts()) == f"{counts_folder()}: 0 kept, 0.0 kB"
    fit(lab)
    fit(lab, token_budget=128)
    entries = kept_counts()
    assert len(entries) == 2
    assert "12 triples, tiny-llama, 1 -> 2" in str(entries[0])
    assert len(entries[0].load()) == 12
    assert repr(entries).splitlines()[0].startswith(f"{counts_folder()}: 2 kept, ")
    with pytest.raises(CountsError, match=r"no counts are kept under 'zz' in .*; dspa counts li"):
        clear_counts("zz")
    gone = clear_counts(entries[0].key[:6])
    assert [entry.key for entry in gone] == [entries[0].key]
    assert [entry.key for entry in kept_counts()] == [entries[1].key]
    assert len(clear_counts()) == 1
    assert not [path for path in counts_folder().iterdir() if path.is_dir()]


def test_the_oldest_go_beyond_the_limit(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(lab)
    fit(lab, token_budget=128)
    newer, older = kept_counts()
    for entry, age in ((newer, 100.0), (older, 200.0)):
        for path in entry.folder.iterdir():
            then = path.stat().st_mtime - age
            os.utime(path, (then, then))
    fit(lab)  # used again, the older one is the newest
    monkeypatch.setattr(cache, "LIMIT", int(2.5 * older.nbytes))
    capsys.readouterr()
    fit(lab, token_budget=32)
    assert {entry.key for entry in kept_counts()} >= {older.key}
    assert newer.key not in {entry.key for entry in kept_counts()}
    assert "1 older counts (" in capsys.readouterr().err.splitlines()[-1]


def test_what_fit_refuses_it_refuses_with_kept_counts_too(lab: Lab) -> None:
    fit(lab)
    sentence = "count was called inside a tracing context"
    with pytest.raises(SteeringError, match=sentence), lab.nn.trace("sun"):
        lab.dspa.fit(lab.triples, token_budget=64)


def test_counts_of_a_model_on_ndif_are_known_by_its_server(lab: Lab) -> None:
    run = cache.CountRun(lab.dspa, lab.triples)
    assert cache.key_of(run, True) != cache.key_of(run, False)


def test_a_folder_of_somebody_elses_stays(lab: Lab) -> None:
    fit(lab)
    other = counts_folder() / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    try:
        assert len(kept_counts()) == 1
        clear_counts()
        assert (other / "notes.txt").read_text() == "mine"
    finally:
        (other / "notes.txt").unlink()
        other.rmdir()
