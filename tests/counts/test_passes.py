"""The counting pass: batches, checkpoints, shards, contexts. Exactness: test_parity."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import ActivationCounts, CountsError, TripleError
from dspa_nn.counts import CountRun, TokenisedTriple, checkpoints, merge_shards, passes, prepare
from dspa_nn.counts import remote as remote_counting
from dspa_nn.counts.batches import plan_batches, plan_passes
from dspa_nn.graph import active
from dspa_nn.graph.count import Counter
from tests import steer_zoo, tiny
from tests.job_stand import JobStand
from tests.steer_zoo import Lab

# Tokens to a pass, small enough for several batches of the zoo's twelve triples.
BUDGET = 40


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def count(lab: Lab, triples: Any = None, **changes: Any) -> ActivationCounts:
    given = {"token_budget": BUDGET, "progress": False} | changes
    return lab.dspa.count(lab.triples if triples is None else triples, **given)


def written(counts: ActivationCounts, folder: Path) -> dict[str, bytes]:
    """The bytes of the files that a table is saved as."""
    counts.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def arrays(counts: ActivationCounts, folder: Path) -> list[bytes]:
    """The bytes of the tensors alone: counts of NDIF do not know the weights, and say so."""
    return [data for name, data in written(counts, folder).items() if name.endswith("tensors")]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> list[int]:
    """Make the counting pass raise after so many batches; the list grows by one at each."""
    done: list[int] = []
    real: Callable[..., Any] = passes.run_batch

    def run(model: Any, counter: Any, batch: Any, token_budget: int) -> Any:
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(len(batch))
        return real(model, counter, batch, token_budget)

    monkeypatch.setattr(passes, "run_batch", run)
    return done


@pytest.mark.parametrize("batches_per_chunk", [1, 2])
def test_resumed_equals_uninterrupted_byte_for_byte(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches_per_chunk: int
) -> None:
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", batches_per_chunk)
    whole = written(count(lab), tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            count(lab, checkpoint=tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert len(kept) == 3 // batches_per_chunk
    done = interrupt_after(monkeypatch, 100)
    resumed = count(lab, checkpoint=tmp_path / "run")
    total = len(plan_batches(jobs_of(lab), BUDGET))
    assert len(done) == total - len(kept) * batches_per_chunk > 0
    assert written(resumed, tmp_path / "resumed") == whole
    # A finished checkpoint is read, not run again.
    done.clear()
    assert written(count(lab, checkpoint=tmp_path / "run"), tmp_path / "again") == whole
    assert not done


def jobs_of(lab: Lab) -> list[TokenisedTriple]:
    return prepare(lab.triples, lab.tok, 512, "truncate")[0]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 3, 40])
def test_shards_merge_to_the_whole_byte_for_byte_in_any_order(
    lab: Lab, tmp_path: Path, shards: int
) -> None:
    whole = count(lab)
    assert len(plan_batches(jobs_of(lab), BUDGET)) < 40
    parts = [count(lab, shards=shards, shard=place) for place in range(shards)]
    assert (0 in [len(part) for part in parts]) == (shards == 40)
    wanted = written(whole, tmp_path / "whole")
    assert written(parts[0].merge(*parts[1:]), tmp_path / "a") == wanted
    last = parts[-1]
    for part in parts[-2::-1]:
        last = last.merge(part)
    assert written(last, tmp_path / "b") == wanted


def test_what_a_source_left_out_is_said_once(lab: Lab) -> None:
    overlong = dataclasses.replace(lab.triples[0], prompt="sun " * 600)
    given: dict[str, Any] = {"triples": [*lab.triples, overlong], "overlong": "skip"}
    whole = count(lab, **given)
    parts = [count(lab, **given, shards=2, shard=place) for place in range(2)]
    assert sum(whole.skipped.values()) == 1
    assert parts[0].merge(parts[1]).skipped == whole.skipped


def test_a_shard_that_does_not_exist_and_a_fit_on_one_are_refused(lab: Lab) -> None:
    for shards, shard in ((3, 3), (3, -1), (0, 0)):
        with pytest.raises(CountsError, match=f"shard {shard} of {shards} does not exist; shards"):
            count(lab, shards=shards, shard=shard)
    with pytest.raises(CountsError, match="fit came with shards=2, and a map is fitted on a whole"):
        lab.dspa.fit(lab.triples, shards=2, shard=1)  # pyright: ignore[reportCallIssue]


def test_shards_share_a_checkpoint_folder_and_resume(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 1)
    wanted = written(count(lab), tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            count(lab, checkpoint=tmp_path / "run", shards=2, shard=1)
    parts = [count(lab, checkpoint=tmp_path / "run", shards=2, shard=at) for at in range(2)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "shard-00000-of-00002",
        "shard-00001-of-00002",
    ]
    done = interrupt_after(monkeypatch, 0)
    again = [count(lab, checkpoint=tmp_path / "run", shards=2, shard=at) for at in range(2)]
    assert not done
    for some in (parts, again):
        assert written(some[1].merge(some[0]), tmp_path / "merged") == wanted


def test_a_kept_shard_is_not_counted_again_and_its_checkpoint_goes(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 1)
    own = CountRun(lab.dspa, lab.triples, token_budget=BUDGET)
    work, kept = tmp_path / "work", tmp_path / "kept"
    given: dict[str, Any] = {"checkpoint": work, "progress": False}
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            own.keep(kept, shards=2, shard=1, **given)
    assert len(list(work.rglob("chunk-*"))) == 1
    assert not kept.exists()
    for shard in (0, 1):
        own.keep(kept, shards=2, shard=shard, **given)
    done = interrupt_after(monkeypatch, 0)
    own.keep(kept, shards=2, shard=1, **given)
    assert not done
    assert not list(work.iterdir())
    whole = tmp_path / "whole"
    monkeypatch.undo()
    own.keep(whole, **given)
    assert written(merge_shards(kept), tmp_path / "a") == written(count(lab), tmp_path / "b")
    assert written(merge_shards(whole), tmp_path / "c") == written(count(lab), tmp_path / "d")
    other = CountRun(lab.dspa, lab.triples[:-1], token_budget=BUDGET)
    with pytest.raises(CountsError, match=r"kept was taken with another .*; give an empty folder"):
        other.keep(kept, shards=2, shard=1)


def test_a_checkpoint_in_chunks_of_another_size_is_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 1)
    count(lab, checkpoint=tmp_path)
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 2)
    with pytest.raises(CountsError, match="was taken with another split into chunks; give an emp"):
        count(lab, checkpoint=tmp_path)


def test_shards_counted_remotely_merge_to_the_whole(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_counting, "submit", JobStand)
    monkeypatch.setattr(remote_counting, "POLL_EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 2)
    shards = 12  # more than there are batches
    parts = [
        count(lab, remote=True, checkpoint=tmp_path / "run", shards=shards, shard=place)
        for place in range(shards)
    ]
    assert 0 in [len(part) for part in parts]
    wanted = arrays(count(lab), tmp_path / "whole")
    assert arrays(parts[0].merge(*parts[1:]), tmp_path / "merged") == wanted


def test_a_checkpoint_of_another_run_is_refused(lab: Lab, tmp_path: Path) -> None:
    count(lab, checkpoint=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for changes in ({"token_budget": BUDGET + 1}, {"triples": lab.triples[:-1]}):
        with pytest.raises(
            CountsError, match=r"was taken with another .*; give an empty folder, o"
        ):
            count(lab, **changes, checkpoint=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_batches_hold_every_triple_once_and_keep_the_budget(lab: Lab) -> None:
    jobs = jobs_of(lab)
    for budget in (1, 20, BUDGET, 256, 10**6):
        batches = plan_batches(jobs, budget)
        assert sorted(place for batch in batches for place in batch) == list(range(len(jobs)))
        for batch in batches:
            lengths = [jobs[place].prompt.prompt_length for place in batch]
            tokens = sum(jobs[place].tokens for place in batch)
            assert len(batch) == 1 or max(lengths) * len(batch) <= budget
            assert len(batch) == 1 or tokens <= 4 * budget
            assert len(batch) == 1 or max(lengths) - min(lengths) <= budget / 64
    assert len(plan_batches(jobs, 1)) == len(jobs)
    assert len(plan_batches(jobs, 10**6)) == 1
    with pytest.raises(CountsError, match="token_budget is 0, and must be at least 1; try 4096"):
        count(lab, token_budget=0)


def test_passes_hold_every_response_once_and_waste_little(lab: Lab) -> None:
    jobs = jobs_of(lab)
    lengths = [len(job.chosen.response_ids) for job in jobs]
    lengths += [len(job.rejected.response_ids) for job in jobs]
    cached = max(job.prompt.prompt_length for job in jobs)
    for budget in (1, 64, 640, 10**6):
        passes = plan_passes(jobs, budget)
        assert sorted(row for rows in passes for row in rows) == list(range(2 * len(jobs)))
        for rows in passes:
            own = [lengths[row] for row in rows]
            assert len(rows) == 1 or (cached + max(own)) * len(rows) <= budget
            assert max(own) - min(own) <= budget / 64
    assert len(plan_passes(jobs, 1)) == 2 * len(jobs)
    assert len(plan_passes(jobs, 10**6)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3"])
def test_counts_are_those_of_three_whole_passes_at_any_budget(kind: str) -> None:
    """The prompt runs once; what is counted is what plain passes over whole sequences show."""
    own = steer_zoo.lab(kind, "add")
    encoders = own.dspa.input_sae.encoder, own.dspa.output_sae.encoder

    def active(encoder: Any, layer: int, ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        states = own.hf(ids[None], output_hidden_states=True, use_cache=False).hidden_states
        return (encoder.encode(states[layer + 1][0])[0] > 0)[counted].sum(0)

    tables = {"content": [], "chosen": [], "rejected": []}
    for job in jobs_of(own):
        size = job.prompt.prompt_length
        inside = job.prompt.counted("content")
        layers = own.dspa.input_layer, own.dspa.output_layer
        with torch.no_grad():
            prompt = active(encoders[0], layers[0], job.prompt.prompt_ids, inside)
            tables["content"].append(prompt)
            for name, end in (("chosen", job.chosen), ("rejected", job.rejected)):
                after = torch.arange(len(end.ids)) >= size
                tables[name].append(active(encoders[1], layers[1], end.ids, after))
    for budget in (1, BUDGET, 10**6):
        counts = count(own, own.triples, token_budget=budget)
        for name, rows in tables.items():
            assert (getattr(counts, name).toarray() == torch.stack(rows).numpy()).all(), budget


def test_an_empty_prompt_is_counted_without_a_cache() -> None:
    from dspa_nn import PreferenceTriple

    own = steer_zoo.lab("llama", "none")
    lone, other = PreferenceTriple("", "red moon", "six ice"), own.triples[0]
    assert not len(own.dspa.render("").ids)
    counts = count(own, [lone])
    assert counts.content_length.tolist() == [0]
    assert counts.chosen.nnz
    together = count(own, [lone, other], token_budget=10**6)
    chosen: Any = together.subset([0]).chosen
    assert (chosen != counts.chosen).nnz == 0


def test_a_model_without_a_cache_of_layers_is_refused() -> None:
    counter = Counter([], [])
    with pytest.raises(CountsError, match="hands its blocks no key-value cache of layers"):
        counter.find_cache((torch.zeros(1),), {"past_key_values": None})


def test_encoding_in_small_blocks_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active, "BLOCK", 3 * tiny.WIDTH_IN)
    again = count(lab)
    for name in ("content", "markup", "chosen", "rejected"):
        assert (getattr(again, name) != getattr(lab.counts, name)).nnz == 0


def test_bad_sources_are_refused(lab: Lab) -> None:
    with pytest.raises(CountsError, match="no triples came, and at least one is needed; check th"):
        count(lab, [])


def test_nan_in_activations_is_refused_and_nothing_is_written(lab: Lab, tmp_path: Path) -> None:
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
    from dspa_nn import DSPA

    lab = steer_zoo.lab("qwen3", "none", chat=True)
    jobs = prepare(lab.triples, lab.tok, 512, "error")[0]
    lengths = {job.index: max(len(end.ids) for end in job.ends) for job in jobs}
    context = sorted(lengths.values())[-5]
    too_long = [index for index, length in lengths.items() if length > context]
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
