"""Ctrl-C in a long command: what is on disk by then is whole, and a sentence says how to go on."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import typer

from dspa_nn.progress import say

STOPPED = 130


@contextmanager
def resumable(how: str) -> Generator[None]:
    """Where Ctrl-C stops the block, say how to go on, and exit with 130.

    >>> with resumable("what is measured is in out, and the same command goes on from there"):
    ...     pass

    how: a clause, after "dspa: stopped: ".
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"dspa: stopped: {how}")
        raise typer.Exit(STOPPED) from None


def how_to_go_on(checkpoint: Path | None, *, kept: bool = False, done: str = "counted") -> str:
    """How a run goes on that was stopped while it counted, or measured, as a clause.

    >>> how_to_go_on(Path("run"))
    'what was counted is in run, and the same command goes on from there'

    kept: whether what was done is kept without a checkpoint. done: what it did.
    """
    if checkpoint:
        return f"what was {done} is in {checkpoint}, and the same command goes on from there"
    if kept:
        return f"what was {done} is kept, and the same command goes on from there"
    return (
        "nothing was kept; with --checkpoint FOLDER the same command would go on from where it "
        "stopped"
    )


def kept_in(folder: Path) -> str:
    """The same of answers and judgments, which are kept one by one.

    >>> kept_in(Path("out"))
    'answers and judgments so far are in out, and the same command goes on from there'
    """
    return f"answers and judgments so far are in {folder}, and the same command goes on from there"
