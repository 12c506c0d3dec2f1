"""The one pass of the model over the triples: planned once, in batches that can be told apart.

What a batch holds depends on the whole source alone, never on how the work was split, so that
shards, retries and resumed runs give the same table byte for byte.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dspa_nn.counts import ActivationCounts, Block
from dspa_nn.errors import CountsError
from dspa_nn.graph.count import Counter, stop
from dspa_nn.provenance import unequal
from dspa_nn.rendering import Rendered, render
from dspa_nn.shards import check_shard
from dspa_nn.triples import PreferenceTriple

# Padded tokens to a batch: enough to fill two cores, little enough for a laptop's memory.
TOKEN_BUDGET = 4096
# Batches to a file of a checkpoint: what is done again after an interruption is at most this.
BATCHES_PER_CHUNK = 8


@dataclass(frozen=True)
class Job:
    """One triple as token ids: the prompt once, and its two ends."""

    index: int
    prompt: Rendered
    chosen: Rendered
    rejected: Rendered

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two sequences."""
        return max(len(self.chosen.ids), len(self.rejected.ids))


def prepare(
    triples: Sequence[PreferenceTriple], tokenizer: Any, context: int, overlong: str
) -> tuple[list[Job], dict[str, int]]:
    """Render every triple; return the jobs and how many were left out or cut, by reason.

    context: the model's context in tokens; overlong: "truncate" (from the left, at a message
    boundary), "skip" or "error".

    Raises:
        CountsError: no triple came, or none was left.
    """
    from dspa_nn.context import fit_to_context

    if not len(triples):
        raise CountsError("no triples came, and at least one is needed; check the source")
    jobs, skipped = [], {}
    for index, triple in enumerate(triples):
        fitted, reason = fit_to_context(tokenizer, triple, context, overlong)
        if reason is not None:
            skipped[reason] = skipped.get(reason, 0) + 1
        if fitted is None:
            continue
        prompt = render(tokenizer, fitted.prompt)
        ends = [render(tokenizer, prompt, text) for text in (fitted.chosen, fitted.rejected)]
        jobs.append(Job(index, prompt, *ends))
    if not jobs:
        raise CountsError(
            f"none of the {len(triples)} triples fits a context of {context} tokens; pass shorter "
            "prompts or overlong='truncate'"
        )
    return jobs, skipped


def plan_batches(jobs: Sequence[Job], token_budget: int) -> list[list[int]]:
    """Split the jobs into batches of alike length, each within `token_budget` padded tokens.

    Returns positions in `jobs`; longest first, so that memory runs out at once or not at all.
    """
    if token_budget < 1:
        raise CountsError(f"token_budget is {token_budget}, and must be at least 1; try 4096")
    order = sorted(range(len(jobs)), key=lambda place: (-jobs[place].longest, jobs[place].index))
    batches: list[list[int]] = []
    for place in order:
        if batches and jobs[batches[-1][0]].longest * 2 * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def plan_hash(jobs: Sequence[Job], batches: list[list[int]]) -> str:
    """Return a hash over what every batch will show the model, in order."""
    digest = hashlib.sha256()
    for batch in batches:
        for job in (jobs[place] for place in batch):
            for end in (job.chosen, job.rejected):
                digest.update(end.ids.numpy().tobytes())
            digest.update(job.prompt.content.numpy().tobytes())
            digest.update(str((job.index, job.prompt.prompt_length)).encode())
        digest.update(b"|")
    return digest.hexdigest()


def to_tensors(batch: Sequence[Job]) -> dict[str, Any]:
    """Pad a batch on the right and say where each token is counted (see `Counter.count`).

    Rows are the chosen sequences, then the rejected ones. The prompt is read in the first half
    alone; row 2k of its table holds the content tokens of triple k, row 2k + 1 its markup.
    """
    ends = [job.chosen for job in batch] + [job.rejected for job in batch]
    width = max(len(end.ids) for end in ends)
    ids = torch.zeros(len(ends), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    prompt_target = torch.full_like(ids, -1)
    response_target = torch.full_like(ids, -1)
    for row, end in enumerate(ends):
        ids[row, : len(end.ids)] = end.ids
        mask[row, : len(end.ids)] = 1
        response_target[row, end.prompt_length : len(end.ids)] = row
    for row, job in enumerate(batch):
        target = torch.where(job.prompt.content, 2 * row, 2 * row + 1)
        counts = job.prompt.counted("all")
        prompt_target[row, : job.prompt.prompt_length] = torch.where(counts, target, -1)
    return {
        "inputs": {"input_ids": ids, "attention_mask": mask},
        "prompt_target": prompt_target,
        "prompt_size": 2 * len(batch),
        "response_target": response_target,
        "response_size": len(ends),
    }


def run_batch(model: Any, counter: Counter, batch: Sequence[Job]) -> Block:
    """Count one batch in one nnsight trace."""
    from nnsight import save
    from scipy.sparse import csr_array

    tensors = to_tensors(batch)
    with torch.no_grad(), model.trace(tensors["inputs"], use_cache=False):
        found = save(counter.count(tensors))
        stop()
    prompt, response = (csr_array(table.numpy()) for table in found)
    return to_block(batch, prompt, response)


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


def show_progress(total: int, visible: bool | None) -> tuple[Callable[[int], Any], Any]:
    """Return a function that advances a progress bar and the bar; it shows on terminals alone."""
    from tqdm.auto import tqdm

    bar = tqdm(
        total=total,
        unit=" triples",
        desc="counting",
        disable=None if visible is None else not visible,
    )
    return bar.update, bar
