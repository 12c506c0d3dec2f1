"""The counting pass: batches, checkpoints, shards, contexts. Exactness: test_parity."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import ActivationCounts, CountsError, TripleError, counting
from dspa_nn.graph import steer
from dspa_nn.graph.count import Counter
from tests import steer_zoo, tiny
from tests.steer_zoo import Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def count(lab: Lab, triples: Any = None, **changes: Any) -> ActivationCounts:
    given = {"token_budget": 256, "progress": False} | changes
    return lab.dspa.count(lab.triples if triples is None else triples, **given)


def written(counts: ActivationCounts, folder: Path) -> dict[str, bytes]:
    """The bytes of the files that a table is saved as."""
    counts.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def interrupt_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> list[int]:
    """Make the counting pass raise after so many batches; the list grows by one at each."""
    done: list[int] = []
    real: Callable[..., Any] = counting.run_batch

    def run(model: Any, counter: Any, batch: Any) -> Any:
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(len(batch))
        return real(model, counter, batch)

    monkeypatch.setattr(counting, "run_batch", run)
    return done


@pytest.mark.parametrize("batches_per_chunk", [1, 2])
def test_resumed_equals_uninterrupted_byte_for_byte(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches_per_chunk: int
) -> None:
    monkeypatch.setattr(counting, "BATCHES_PER_CHUNK", batches_per_chunk)
    whole = written(count(lab), tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            count(lab, checkpoint=tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert len(kept) == 3 // batches_per_chunk
    done = interrupt_after(monkeypatch, 100)
    resumed = count(lab, checkpoint=tmp_path / "run")
    total = len(counting.plan_batches(jobs_of(lab), 256))
    assert len(done) == total - len(kept) * batches_per_chunk > 0
    assert written(resumed, tmp_path / "resumed") == whole
    # A finished checkpoint is read, not run again.
    done.clear()
    assert written(count(lab, checkpoint=tmp_path / "run"), tmp_path / "again") == whole
    assert not done


def jobs_of(lab: Lab) -> list[counting.Job]:
    return counting.prepare(lab.triples, lab.tok, 512, "truncate")[0]


def test_shards_merge_to_the_whole_byte_for_byte_in_any_order(lab: Lab, tmp_path: Path) -> None:
    whole = count(lab)
    jobs = jobs_of(lab)
    batches = counting.plan_batches(jobs, 256)
    paths = [f"{lab.nn.path}.{path}" for path in lab.dspa.paths]
    counter = Counter((lab.dspa.input_sae.encoder, lab.dspa.output_sae.encoder), paths)

    def shard(place: int, shards: int) -> ActivationCounts:
        return counting.count_batches(
            jobs,
            counting.shard_of(batches, place, shards),
            lambda batch: counting.run_batch(lab.nn, counter, batch),
            (tiny.WIDTH_IN, tiny.WIDTH_OUT),
            whole.provenance,
            None,
            lambda done: None,
        )

    one, two, three = (shard(place, 3) for place in range(3))
    wanted = written(whole, tmp_path / "whole")
    assert written(one.merge(two, three), tmp_path / "a") == wanted
    assert written(three.merge(one).merge(two), tmp_path / "b") == wanted
    with pytest.raises(CountsError, match="shard 3 of 3 does not exist; shards count from 0"):
        counting.shard_of(batches, 3, 3)


def test_a_checkpoint_of_another_run_is_refused(lab: Lab, tmp_path: Path) -> None:
    count(lab, checkpoint=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for changes in ({"token_budget": 300}, {"triples": lab.triples[:-1]}):
        with pytest.raises(
            CountsError, match=r"was taken with another .*; give an empty folder, o"
        ):
            count(lab, **changes, checkpoint=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_batches_hold_every_triple_once_and_keep_the_budget(lab: Lab) -> None:
    jobs = jobs_of(lab)
    for budget in (1, 100, 256, 10**6):
        batches = counting.plan_batches(jobs, budget)
        assert sorted(place for batch in batches for place in batch) == list(range(len(jobs)))
        for batch in batches:
            longest = max(jobs[place].longest for place in batch)
            assert len(batch) == 1 or 2 * len(batch) * longest <= budget
    assert len(counting.plan_batches(jobs, 1)) == len(jobs)
    assert len(counting.plan_batches(jobs, 10**6)) == 1
    with pytest.raises(CountsError, match="token_budget is 0, and must be at least 1; try 4096"):
        count(lab, token_budget=0)


def test_encoding_in_small_blocks_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer, "BLOCK", 3 * tiny.WIDTH_IN)
    again = count(lab)
    for name in ("content", "markup", "chosen", "rejected"):
        assert (getattr(again, name) != getattr(lab.counts, name)).nnz == 0


def test_bad_sources_are_refused(lab: Lab) -> None:
    with pytest.raises(CountsError, match="no triples came, and at least one is needed; check th"):
        count(lab, [])


def test_nan_in_activations_is_refused_and_nothing_is_written(lab: Lab, tmp_path: Path) -> None:
    import dataclasses

    from dspa_nn import DSPA

    broken = copy.deepcopy(lab.hf)
    with torch.no_grad():
        broken.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    dspa = DSPA(
        tiny.nnsight_model(broken, lab.tok), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip
    with pytest.raises(CountsError, match=r"the residual stream holds NaN or infinity; load the m"):
        count(dataclasses.replace(lab, dspa=dspa), checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overlong", ["truncate", "skip", "error"])
def test_triples_longer_than_the_context(overlong: str) -> None:
    import dataclasses

    from dspa_nn import DSPA

    lab = steer_zoo.lab("qwen3", "none", chat=True)
    jobs = counting.prepare(lab.triples, lab.tok, 512, "error")[0]
    context = sorted(job.longest for job in jobs)[-5]
    too_long = [job.index for job in jobs if job.longest > context]
    short = tiny.model("qwen3", max_position_embeddings=context)
    dspa = DSPA(
        tiny.nnsight_model(short, lab.tok), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip
    own = dataclasses.replace(lab, dspa=dspa)
    assert 0 < len(too_long) < len(lab.triples)
    if overlong == "error":
        with pytest.raises(TripleError, match="choose 'truncate' or 'skip', or shorten it"):
            count(own, overlong=overlong)
        return
    counts = count(own, overlong=overlong)
    assert sum(counts.skipped.values()) == len(too_long)
    left = set(range(len(lab.triples))) - set(too_long)
    assert left <= set(counts.index.tolist())
    if overlong == "skip":
        assert set(counts.index.tolist()) == left
    else:
        assert len(counts.index) > len(left)


def test_the_progress_bar_shows_when_asked(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    count(lab, lab.triples[:2], progress=None)
    assert capsys.readouterr().err == ""  # not a terminal
    count(lab, lab.triples[:2], progress=True)
    assert "2/2" in capsys.readouterr().err
