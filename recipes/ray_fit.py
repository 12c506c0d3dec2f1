"""Count preference triples with Ray Data: one model per actor, one shard of the batches per task.

    pip install -c constraints.txt -e '.[ray]'
    python recipes/ray_fit.py triples.jsonl counts --workers 8 --gpus 1 --preset gemma-2-9b
    dspa merge counts --out map                              # when all shards are counted; no GPU

Ray starts the actors and hands out the shards. An actor that dies (its process or its node) is
started again as often as it takes, and its shard goes on from the last finished batches; an error
of the count itself ends the run. Run the script again after anything worse: what is there is not
counted again. Merged, the shards are the table of a single run byte for byte, given one kind of
processor or GPU and as many threads (--threads).

The source and the folder of the shards are on a disk that all nodes see. Without `--address` Ray
runs on this machine alone; `--address auto` joins the cluster that this node belongs to.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import dspa_nn as dn
from dspa_nn.counts import CountRun


class ShardCounter:
    """An actor: one model, the source planned once, and the shards that Ray hands it."""

    def __init__(
        self, build: Callable[[], Any], source: str, chat: bool, token_budget: int | None,
        folder: str, shards: int, threads: int,
    ) -> None:  # fmt: skip
        torch.set_num_threads(threads)
        # Each actor plans the whole source by itself: the same plan, since it depends on nothing
        # but the triples and the budget.
        triples = dn.load_triples(source, chat=chat)
        self.run = CountRun(build(), triples, token_budget=token_budget)
        self.folder, self.shards = Path(folder), shards

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Count the shards that `batch["shard"]` names; say who counted how many triples."""
        counted = [
            self.run.keep(
                self.folder,
                shards=self.shards,
                shard=int(shard),
                checkpoint=self.folder / "unfinished",
                progress=False,
            )
            for shard in batch["shard"]
        ]
        return {
            "shard": list(batch["shard"]),
            "triples": [len(counts) for counts in counted],
            "process": [os.getpid()] * len(counted),
        }


def count_shards(
    build: Callable[[], Any],
    source: str | Path,
    folder: str | Path,
    *,
    shards: int,
    workers: int,
    chat: bool = True,
    token_budget: int | None = None,
    threads: int = 1,
    gpus: float = 0,
) -> Any:
    """Spread the shards over actors; yields a row for every one that is in `folder`, as they come.

    build: returns the `DSPA`, in each actor. gpus: of one actor.
    """
    import ray.data  # pyright: ignore[reportMissingImports]

    # Each actor runs in another working folder, so relative paths would not resolve there.
    source = str(Path(source).resolve()) if Path(source).exists() else str(source)
    folder = str(Path(folder).resolve())
    ray.data.DataContext.get_current().enable_progress_bars = False
    # One shard per block, since Ray retries whole blocks. The rows are made here: a task that read
    # them would wait for a processor while the actors hold all of them.
    rows = [{"shard": shard} for shard in range(shards)]
    tasks = ray.data.from_items(rows, override_num_blocks=shards).map_batches(
        ShardCounter,  # pyright: ignore[reportArgumentType]
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        fn_constructor_args=(build, source, chat, token_budget, folder, shards, threads),
        num_cpus=threads,
        num_gpus=gpus,
    )
    return tasks.iter_rows()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="JSON Lines, Parquet, or a datasets name")
    parser.add_argument("counts", type=Path, help="folder of the shards")
    parser.add_argument("--preset", default="smollm2-135m-instruct", help="model, layers and SAEs")
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="lift string prompts to one user message",
    )
    parser.add_argument("--token-budget", type=int, help="padded tokens to a pass; default: 4096")
    parser.add_argument("--workers", type=int, default=1, help="actors, one model each")
    parser.add_argument("--shards", type=int, help="parts of the plan; default: 8 a worker")
    parser.add_argument("--threads", type=int, default=1, help="processors of one actor")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of one actor")
    parser.add_argument("--address", help="of a Ray cluster; default: this machine alone")
    given = parser.parse_args()

    import ray  # pyright: ignore[reportMissingImports]

    if given.address is None:
        ray.init(address="local", num_cpus=given.workers * given.threads, include_dashboard=False)
    else:
        ray.init(address=given.address)
    shards = given.shards or 8 * given.workers
    rows = count_shards(
        partial(dn.DSPA.from_preset, given.preset),
        given.source,
        given.counts,
        shards=shards,
        workers=given.workers,
        chat=given.chat,
        token_budget=given.token_budget,
        threads=given.threads,
        gpus=given.gpus,
    )
    for done, row in enumerate(rows, start=1):
        print(
            f"shard {row['shard']}: {row['triples']} triples, process {row['process']} "
            f"({done} of {shards})",
            flush=True,
        )
    print(f"all there; now: dspa merge {given.counts} --out map")


if __name__ == "__main__":
    main()
