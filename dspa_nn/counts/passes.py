"""The one pass of the model over the triples: every planned batch is run once, and kept."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dspa_nn.counts.batches import Job, to_tensors
from dspa_nn.counts.shards import check_shard
from dspa_nn.counts.table import ActivationCounts, Block
from dspa_nn.errors import CountsError, TripleError
from dspa_nn.graph.count import Counter
from dspa_nn.prompts import Overlong, render_to_fit
from dspa_nn.provenance import unequal
from dspa_nn.triples import PreferenceTriple

# Batches to a file of a checkpoint: what is done again after an interruption is at most this.
BATCHES_PER_CHUNK = 2


def prepare(
    triples: Sequence[PreferenceTriple], tokenizer: Any, context: int, overlong: Overlong
) -> tuple[list[Job], dict[str, int]]:
    """Render every triple; return the jobs and how many were left out or cut, by reason.

    context: the model's context in tokens; overlong: "truncate" (from the left, at a message
    boundary), "skip" or "error".

    Raises:
        CountsError: no triple came, or none was left.
    """
    if isinstance(triples, str) or not hasattr(triples, "__len__"):
        raise TripleError(
            f"triples came as a {type(triples).__name__}, where a list of them was expected: read "
            "a source with load_triples(...), or put them in a list"
        )
    if not len(triples):
        raise CountsError("no triples came, and at least one is needed; check the source")
    jobs, skipped = [], {}
    for index, triple in enumerate(triples):
        if not isinstance(triple, PreferenceTriple):
            raise TripleError(
                f"triple {index} is a {type(triple).__name__}, where a PreferenceTriple was "
                "expected: read rows with load_triples(rows)"
            )
        fitted = render_to_fit(tokenizer, triple, context, overlong)
        if fitted.reason is not None:
            skipped[fitted.reason] = skipped.get(fitted.reason, 0) + 1
        if fitted.prompt is not None:
            jobs.append(Job(index, fitted.prompt, *fitted.ends))
    if not jobs:
        raise CountsError(
            f"none of the {len(triples)} triples fits a context of {context} tokens; pass shorter "
            "prompts or overlong='truncate'"
        )
    return jobs, skipped


def run_batch(model: Any, counter: Counter, batch: Sequence[Job], token_budget: int) -> Block:
    """Count one batch."""
    from scipy.sparse import csr_array

    run_traces(model, counter, to_tensors(batch, token_budget, positions=takes_positions(model)))
    prompt, response = (csr_array(table.numpy()) for table in counter.finish())
    return to_block(batch, prompt, response)


def run_traces(model: Any, counter: Counter, tensors: dict[str, Any]) -> None:
    """Run a batch as `to_tensors` lays it out: a trace for its prompts, then one for each pass."""
    counter.begin(tensors)
    with torch.no_grad():
        if tensors["prompt"] is not None:
            with model.trace(tensors["prompt"], use_cache=True):
                counter.prompt(tensors)
        for own in tensors["passes"]:
            cache = counter.resume(own["triples"])
            with model.trace(own["inputs"], past_key_values=cache, use_cache=cache is not None):
                counter.response(own["target"])


def takes_positions(model: Any) -> bool:
    """Whether the model's forward takes `position_ids`; ALiBi models read them off the mask."""
    return "position_ids" in inspect.signature(model._module.forward).parameters


def to_block(batch: Sequence[Job], prompt: Any, response: Any) -> Block:
    """Put the two tables of a batch (see `to_tensors`) and its lengths together."""
    n = len(batch)
    own = [int(job.prompt.counted("content").sum()) for job in batch]
    every = [int(job.prompt.counted("all").sum()) for job in batch]
    return Block(
        content=prompt[0::2],
        markup=prompt[1::2],
        chosen=response[:n],
        rejected=response[n:],
        content_length=np.array(own),
        markup_length=np.array(every) - np.array(own),
        chosen_length=np.array([len(job.chosen.response_ids) for job in batch]),
        rejected_length=np.array([len(job.rejected.response_ids) for job in batch]),
        index=np.array([job.index for job in batch]),
    )


def count_batches(
    jobs: Sequence[Job],
    batches: list[list[int]],
    run: Callable[[list[Job]], Block],
    widths: tuple[int, int],
    provenance: dict[str, Any],
    checkpoint: Path | None,
    progress: Callable[[int], Any],
) -> ActivationCounts:
    """Run every batch, in files of `BATCHES_PER_CHUNK` where a checkpoint folder is given.

    Files that an earlier run with the same plan left behind are read instead of run again.
    """
    pieces = []
    for chunk, start in enumerate(range(0, len(batches), BATCHES_PER_CHUNK)):
        mine = batches[start : start + BATCHES_PER_CHUNK]
        folder = None if checkpoint is None else checkpoint / f"chunk-{chunk:05d}"
        indices = [jobs[place].index for batch in mine for place in batch]
        done = None if folder is None else stored(folder, provenance, indices)
        if done is None:
            blocks = []
            for batch in mine:
                blocks.append(run([jobs[place] for place in batch]))
                progress(len(batch))
            done = ActivationCounts.from_rows(
                blocks, d_in=widths[0], d_out=widths[1], provenance=provenance
            )
            if folder is not None:
                done.save(folder)
        else:
            progress(sum(len(batch) for batch in mine))
        pieces.append(done)
    return pieces[0].merge(*pieces[1:])


def stored(folder: Path, provenance: dict[str, Any], indices: list[int]) -> ActivationCounts | None:
    """Read a chunk of a checkpoint, or return None where there is none.

    indices: the triples that the chunk must hold, in any order.
    """
    if not (folder / "counts.json").exists():
        return None
    counts = ActivationCounts.load(folder)
    differing = unequal(counts.provenance, provenance)
    if differing or counts.index.tolist() != sorted(indices):
        raise CountsError(
            f"the checkpoint {folder.parent} was taken with another "
            f"{', '.join(differing) or 'split into chunks'}; give an empty folder, or the triples, "
            "model, SAEs and token_budget it was begun with"
        )
    return counts


def shard_of(batches: list[list[int]], shard: int, shards: int) -> list[list[int]]:
    """Return the batches of one shard of `shards`; together they are the whole plan."""
    check_shard(shard, shards)
    return batches[shard::shards]
