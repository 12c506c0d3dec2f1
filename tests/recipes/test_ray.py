"""The recipe on Ray Data: an actor killed while it counts changes no byte of the table."""

import functools
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dspa_nn import DSPA, load_triples
from dspa_nn.counts import CountRun, checkpoints, merge_shards, passes
from tests import tiny

SHARDS, BUDGET = 5, 40
REPOSITORY = Path(__file__).parents[2]

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
)


def build(killed: str | None = None) -> DSPA:
    """The DSPA of one actor; the first actor that comes to a second batch kills itself there."""
    model, tok = tiny.model("llama"), tiny.tokenizer("add")
    input_sae, output_sae = tiny.saes(model, "topk")
    if killed is not None:
        _die_once(Path(killed))
    return DSPA(
        tiny.nnsight_model(model, tok), input_sae=input_sae, output_sae=output_sae,
        input_layer=tiny.LAYER_IN, output_layer=tiny.LAYER_OUT,
    )  # fmt: skip


def _die_once(note: Path) -> None:
    checkpoints.BATCHES_PER_CHUNK = 1
    run, done = passes.run_batch, []

    def dying(*given: Any) -> Any:
        if done:
            try:
                note.open("x").write(str(os.getpid()))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        done.append(run(*given))
        return done[-1]

    passes.run_batch = dying


def main(source: str, folder: str, note: str) -> None:
    """What the test runs in a process of its own; prints a line of JSON for each shard."""
    import ray  # pyright: ignore[reportMissingImports]

    from recipes.ray_fit import count_shards

    ray.init(address="local", num_cpus=2, include_dashboard=False)
    rows = count_shards(
        functools.partial(build, note),
        source,
        folder,
        shards=SHARDS,
        workers=2,
        token_budget=BUDGET,
    )
    for row in rows:
        print(json.dumps({key: int(value) for key, value in row.items()}), flush=True)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
@needs_ray
def test_an_actor_killed_while_it_counts_changes_no_byte(tmp_path: Path) -> None:
    source, folder, note = (tmp_path / name for name in ("triples.jsonl", "counts", "killed"))
    source.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(12, chat=True)))
    script = f"from tests.recipes.test_ray import main; main({str(source)!r}, {str(folder)!r}, "
    done = subprocess.run(
        [sys.executable, "-c", f"{script}{str(note)!r})"],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Other tests may keep the processors busy.
            "RAY_gcs_server_port_wait_time_s": "120",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(row["shard"] for row in rows) == list(range(SHARDS))
    assert sum(row["triples"] for row in rows) == 12
    assert int(note.read_text()) not in {row["process"] for row in rows}
    assert not list((folder / "unfinished").iterdir())

    run = CountRun(build(), load_triples(source, chat=True), token_budget=BUDGET)
    whole, merged = run.count(progress=False), merge_shards(folder)
    for name, counts in (("whole", whole), ("merged", merged)):
        counts.save(tmp_path / name)
        counts.fit(percentile=50).save(tmp_path / f"{name}-map")
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "whole")
    assert bytes_of(tmp_path / "merged-map") == bytes_of(tmp_path / "whole-map")


def test_an_actor_counts_what_it_is_handed(tmp_path: Path) -> None:
    from recipes.ray_fit import ShardCounter

    source = tmp_path / "triples.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(6, chat=True)))
    actor = ShardCounter(build, str(source), True, BUDGET, str(tmp_path / "counts"), 2, 1)
    first = actor({"shard": [1]})
    assert first["shard"] == [1]
    assert first["process"] == [os.getpid()]
    assert actor({"shard": [1]})["triples"] == first["triples"]
    assert first["triples"][0] + actor({"shard": [0]})["triples"][0] == 6
    assert len(merge_shards(tmp_path / "counts")) == 6
