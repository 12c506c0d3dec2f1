"""Counts that `fit` took, kept by what was counted with what: no model run is lost, or done twice.

An entry is a folder named by a hash of all that the counts depend on (`keys.py`). While it is
counted it is the checkpoint of that run; then the whole table takes the place of the chunks.
"""

import os
import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from dspa_nn.counts.kept import (
    KeptCounts,
    counts_folder,
    entry_at,
    in_words,
    kept_counts,
    lock_of,
    removed,
)
from dspa_nn.counts.keys import key_of, unknown_hook
from dspa_nn.counts.run import CountRun
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.errors import CountsError, FileError
from dspa_nn.files import held
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.progress import say, warn

# Beyond so many bytes in all, those that were not used for longest go when new ones are kept.
LIMIT = 10 * 2**30
_PARTS = "parts"


def count_or_recall(
    run: CountRun,
    *,
    remote: bool = False,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> ActivationCounts:
    """The counts of a run: those of an equal run before, else counted now and kept.

    >>> run = CountRun(dspa, triples)
    >>> len(count_or_recall(run, progress=False)), len(count_or_recall(run, progress=False))
    (20, 20)

    One process counts, and others that want the same wait for it. What cannot be written is not
    kept, and neither is what a hook of the user's has changed; what was changed on disk is counted
    again. Each says so in a warning.
    """
    check_outside_blocks("count")
    hook = None if remote else unknown_hook(run.dspa.model)
    if hook is not None:
        warn(
            f"the model has a hook of its user's ({hook}), which counts depend on, so they are not "
            "kept; remove the hook for counts that a next fit reads"
        )
        return run.count(remote=remote, checkpoint=checkpoint, progress=progress)
    folder = counts_folder() / key_of(run, remote)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warn(
            f"counts cannot be kept in {counts_folder()} ({error.strerror}), so this fit alone has "
            "them; set DSPA_CACHE to a folder that can be written, or pass cache=False"
        )
        return run.count(remote=remote, checkpoint=checkpoint, progress=progress)
    with _alone(folder, progress):
        counts = _recalled(folder, run, remote)
        if counts is not None:
            with suppress(OSError):
                os.utime(folder / "counts.json")
            _tell("read again from", folder, counts, progress)
            return counts
        own = checkpoint is None
        counts = run.count(
            remote=remote,
            checkpoint=folder / _PARTS if own else checkpoint,
            progress=progress,
            required=not own,
        )
        try:
            counts.save(folder)
        except FileError as error:
            warn(f"these counts could not be kept for a next fit: {error}")
            return counts
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        _tell("kept in", folder, counts, progress)
    _make_room(folder.name, progress)
    return counts


def _alone(folder: Path, progress: bool | None) -> AbstractContextManager[None]:
    """Hold an entry, after waiting for another process that does."""
    told = "another process is counting the same triples; waiting for it"
    return held(lock_of(folder), lambda: say(told, progress))


def _recalled(folder: Path, run: CountRun, remote: bool) -> ActivationCounts | None:
    """The counts of an entry, if it is whole and of this run."""
    if not (folder / "counts.json").exists():
        return None
    wanted = sorted(triple.index for triple in run.tokenised)
    try:
        counts = ActivationCounts.load(folder)
        if counts.index.tolist() != wanted:
            raise CountsError(f"{folder} holds other triples than its name says.")
    except (FileError, CountsError) as error:
        warn(f"counts that were kept are counted again: {error}")
        for path in folder.glob("counts*"):
            path.unlink(missing_ok=True)
        return None
    # An equal run may have come from a file where this one comes from a list.
    counts.provenance, counts.skipped = dict(run.origin(remote)), dict(run.skipped)
    return counts


def _tell(what: str, folder: Path, counts: ActivationCounts, progress: bool | None) -> None:
    size = entry_at(folder).size
    say(f"counts of {len(counts):,} triples are {what} {folder} ({size})", progress)


def _make_room(newest: str, progress: bool | None) -> None:
    """Remove what was not used for longest, until the rest is within the limit."""
    entries = kept_counts()
    total = sum(entry.nbytes for entry in entries)
    gone: list[KeptCounts] = []
    for entry in reversed(entries):
        if total <= LIMIT:
            break
        if entry.key != newest and removed(entry):
            total -= entry.nbytes
            gone.append(entry)
    if gone:
        size = in_words(sum(entry.nbytes for entry in gone))
        say(f"{len(gone)} older counts ({size}) went, to stay within {in_words(LIMIT)}", progress)
