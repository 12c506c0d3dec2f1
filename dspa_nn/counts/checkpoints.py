"""Chunks of batches, each stored as it is finished: what was counted is never counted again.

One loop serves counts here and on NDIF. They differ in a `ChunkRunner`: here chunks are run one
after another, there several are under way at a time and are collected as they come back.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from dspa_nn.counts.table import ActivationCounts
from dspa_nn.counts.tokenize import TokenisedTriple
from dspa_nn.errors import CountsError, FileError
from dspa_nn.progress import warn
from dspa_nn.provenance import unequal

# Batches to a file of a checkpoint: what is done again after an interruption is at most this.
BATCHES_PER_CHUNK = 2

Batch: TypeAlias = list[TokenisedTriple]
Chunk: TypeAlias = list[Batch]
# Called with the number of triples that were counted since it was last called.
Progress: TypeAlias = Callable[[int], Any]


@runtime_checkable
class ChunkRunner(Protocol):
    """What runs chunks, by their number: `passes.LocalRunner` here, `remote.RemoteRunner` there."""

    @property
    def room(self) -> int:
        """How many more chunks may be submitted before one is collected."""
        ...

    def resume(self, unfinished: Sequence[int]) -> list[int]:
        """Take up those of the unfinished chunks that an earlier process left under way."""
        ...

    def submit(self, number: int) -> None:
        """Begin a chunk."""
        ...

    def collect(self) -> Iterator[tuple[int, ActivationCounts | None]]:
        """Yield chunks that are finished, or None for one that was lost and is to be submitted.

        A chunk that was yielded is stored before the next one is asked for.
        """
        ...


def chunks_of(
    tokenised: Sequence[TokenisedTriple], batches: Sequence[Sequence[int]]
) -> list[Chunk]:
    """The batches, given as positions in `tokenised`, in chunks of `BATCHES_PER_CHUNK`."""
    filled = [[tokenised[position] for position in batch] for batch in batches]
    starts = range(0, len(filled), BATCHES_PER_CHUNK)
    return [filled[start : start + BATCHES_PER_CHUNK] for start in starts]


def count_chunks(
    chunks: Sequence[Chunk],
    runner: ChunkRunner,
    provenance: Mapping[str, Any],
    checkpoint: Path | None,
    progress: Progress,
    required: bool = True,
) -> ActivationCounts:
    """Run every chunk that is not stored, store it, and return the table of all of them.

    Without a checkpoint folder nothing is stored. Chunks that an earlier run with the same batch
    plan stored there are read instead of run again.

    required: whether a checkpoint that cannot be read or written is an error; else its chunks are
        counted again, or not stored, and a warning says so.

    Raises:
        CountsError: the checkpoint is that of another run.
    """
    done: dict[int, ActivationCounts] = {}
    if checkpoint is not None:
        for number, chunk in enumerate(chunks):
            try:
                counts = stored(chunk_folder(checkpoint, number), provenance, indices_of(chunk))
            except (CountsError, FileError) as error:
                if required:
                    raise
                warn(f"a part that was kept is counted again: {error}")
                shutil.rmtree(chunk_folder(checkpoint, number), ignore_errors=True)
                counts = None
            if counts is not None:
                done[number] = counts
    progress(sum(len(batch) for number in done for batch in chunks[number]))
    waiting = [number for number in range(len(chunks)) if number not in done]
    resumed = runner.resume(waiting)
    waiting = [number for number in waiting if number not in resumed]
    while len(done) < len(chunks):
        while waiting and runner.room > 0:
            runner.submit(waiting.pop(0))
        for number, counts in runner.collect():
            if counts is None:
                waiting.append(number)
                continue
            if checkpoint is not None:
                try:
                    counts.save(chunk_folder(checkpoint, number))
                except FileError as error:
                    if required:
                        raise
                    warn(f"the run goes on without keeping its parts: {error}")
                    checkpoint = None
            done[number] = counts
    return ActivationCounts.concatenate(done[number] for number in range(len(chunks)))


def chunk_folder(checkpoint: Path, number: int) -> Path:
    """Where the counts of a chunk are stored.

    >>> chunk_folder(Path("counts-run"), 3).name
    'chunk-00003'
    """
    return checkpoint / f"chunk-{number:05d}"


def indices_of(chunk: Chunk) -> list[int]:
    """The numbers of a chunk's triples in their source."""
    return [triple.index for batch in chunk for triple in batch]


def stored(
    folder: Path, provenance: Mapping[str, Any], indices: Sequence[int]
) -> ActivationCounts | None:
    """Read a chunk of a checkpoint, or return None where there is none.

    indices: the triples that the chunk must hold, in any order.

    Raises:
        CountsError: the chunk is of another run.
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
