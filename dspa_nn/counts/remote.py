"""Counting on NDIF: one NDIF job per chunk of batches, several in flight, resumable.

Model and encoders are together on the server, and sparse counts are all that comes back. A job
that was still under way when the client died is collected by its id.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnsight import save
from torch import Tensor

from dspa_nn.counts.batches import BatchTensors
from dspa_nn.counts.checkpoints import Chunk, Progress
from dspa_nn.counts.passes import laid_out, table_of, to_rows
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.errors import CountsError, FileError, NDIFError
from dspa_nn.files import write_atomically
from dspa_nn.graph.count import Counter
from dspa_nn.imports import late
from dspa_nn.ndif import backend_of, new_backend
from dspa_nn.progress import warn
from dspa_nn.shapes import SparseTable
from dspa_nn.shipping import TRAVELS

IN_FLIGHT = 2
# Seconds without news of a job, or without an answer of the server, before it counts as lost.
PATIENCE = 300.0
# The same for a job of an earlier process that the server does not know (any more).
UNKNOWN_PATIENCE = 20.0
# How often a chunk is submitted before the run is given up.
ATTEMPTS = 3
POLL_EVERY = 0.5


class RemoteRunner:
    """Runs chunks of batches as NDIF jobs (`checkpoints.ChunkRunner`).

    checkpoint: the folder of the run, where the ids of jobs under way are noted, or None;
    required: whether it is an error when they cannot be.
    """

    def __init__(
        self,
        model: Any,
        counter: Counter,
        chunks: Sequence[Chunk],
        provenance: Mapping[str, Any],
        checkpoint: Path | None,
        progress: Progress,
        required: bool = True,
    ) -> None:
        self.model, self.counter, self.chunks = model, counter, chunks
        self.provenance, self.checkpoint, self.progress = provenance, checkpoint, progress
        self.required = required
        self.attempts = [0] * len(chunks)
        self.underway: dict[int, Any] = {}  # number of the chunk -> nnsight's backend of its job
        self.last_news: dict[int, float] = {}

    @property
    def room(self) -> int:
        """How many more jobs may be in flight."""
        return IN_FLIGHT - len(self.underway)

    def resume(self, unfinished: Sequence[int]) -> list[int]:
        """Take up the jobs that an earlier process of this run left under way."""
        path = None if self.checkpoint is None else self.checkpoint / "jobs.json"
        if path is None or not path.exists():
            return []
        for key, job_id in _noted(path).items():
            number = int(key)
            if job_id is None:
                warn(
                    f"chunk {number} was being submitted when the earlier run ended, so it may run "
                    "twice; only the job submitted now is used",
                )
            elif number in unfinished:
                self.underway[number] = new_backend(self.model, job_id=job_id)
                self.attempts[number] = 1
                self.last_news[number] = time.monotonic()
        return list(self.underway)

    def submit(self, number: int) -> None:
        """Send a chunk as one job."""
        self.attempts[number] += 1
        budget = self.provenance["batch_plan"]["token_budget"]
        batches = [laid_out(self.model, batch, budget) for batch in self.chunks[number]]
        self._note(number)
        self.underway[number] = submit(self.model, self.counter, batches)
        self.last_news[number] = time.monotonic()
        self._note()

    def collect(self) -> Iterator[tuple[int, ActivationCounts | None]]:
        """Ask after every job, once; jobs of which nothing is heard are lost."""
        for number in list(self.underway):
            result = self._poll(number)
            if result is not None:
                yield number, self._check(number, result)
                # It is stored by now, so its job may be forgotten.
                del self.underway[number]
                self._note()
                self.progress(sum(len(batch) for batch in self.chunks[number]))
        for number in self._lost():
            yield number, None
        time.sleep(POLL_EVERY)

    def _note(self, next_one: int | None = None) -> None:
        """Keep the ids of jobs under way, so that another process can collect them.

        next_one: a chunk that is about to be submitted, whose job has no id yet.
        """
        if self.checkpoint is not None:
            ids = {str(number): backend.job_id for number, backend in self.underway.items()}
            if next_one is not None:
                ids[str(next_one)] = None
            try:
                write_atomically(self.checkpoint / "jobs.json", json.dumps(ids))
            except FileError:
                if self.required:
                    raise

    def _poll(self, number: int) -> dict[str, Any] | None:
        """The result of a job, or None while there is none."""
        backend = self.underway[number]
        before = backend.state
        try:
            result = backend()
        except NDIFError as error:
            if backend.state == "ERROR":
                if self.attempts[number] >= ATTEMPTS or not error.passing:
                    raise
                self.last_news[number] = -PATIENCE  # the job is over: submit it again
            return None
        if backend.state != before:
            self.last_news[number] = time.monotonic()
        return result

    def _lost(self) -> list[int]:
        """Give up jobs of which nothing was heard; return their chunks, to be submitted again."""
        again: list[int] = []
        for number in list(self.underway):
            known = self.underway[number].state is not None
            patience = PATIENCE if known else UNKNOWN_PATIENCE
            if time.monotonic() - self.last_news[number] < patience:
                continue
            job_id = self.underway.pop(number).job_id
            if self.attempts[number] >= ATTEMPTS:
                raise NDIFError(
                    f"chunk {number} of {len(self.chunks)} was submitted {ATTEMPTS} times and "
                    "never came back; with checkpoint= the chunks that did are kept"
                )
            warn(
                f"job {job_id} was lost, so chunk {number} of {len(self.chunks)} is submitted "
                "again; if the job does finish, its result is not used",
            )
            again.append(number)
        return again

    def _check(self, number: int, result: Mapping[str, Any]) -> ActivationCounts:
        """A chunk's table from what its job sent back; refused is what does not fit the chunk."""
        chunk = self.chunks[number]
        tables: list[tuple[Any, Any]] = result.get("tables") or []
        sent = [(2 * len(batch), 2 * len(batch)) for batch in chunk]
        came = [(len(prompt[0]) - 1, len(response[0]) - 1) for prompt, response in tables]
        if came != sent:
            raise CountsError(
                f"chunk {number} came back with {came} rows a batch for {sent} that were sent; "
                "client and server do not fit together: see dspa_nn.doctor()"
            )
        widths = self.counter.widths()
        pieces = [
            to_rows(batch, unpacked(prompt, widths[0]), unpacked(response, widths[1]))
            for batch, (prompt, response) in zip(chunk, tables, strict=True)
        ]
        return table_of(pieces, self.counter, self.provenance)


def _noted(path: Path) -> dict[str, str | None]:
    """The ids of jobs under way, by chunk; none where the note cannot be read."""
    try:
        noted: Any = json.loads(path.read_text())
        return {str(int(key)): job_id for key, job_id in noted.items()}
    except (OSError, ValueError, AttributeError):
        warn(
            f"{path} cannot be read, so chunks that an earlier run had under way are submitted "
            "again; if their jobs do finish, their results are not used"
        )
        return {}


def submit(model: Any, counter: Counter, chunk: list[BatchTensors]) -> Any:
    """Send one chunk as one job; return nnsight's backend, which asks after it when called.

    The body travels as it stands here, which is why `passes.run_traces` is not called in it.
    """
    from nnsight import register

    register(TRAVELS)
    with model.session(backend=new_backend(model)) as tracer:
        tables = save([])
        for tensors in chunk:
            counter.begin(tensors)
            if tensors["prompt"] is not None:
                with model.trace(tensors["prompt"], use_cache=tensors["shared"]):
                    counter.prompt(tensors)
            for responses in tensors["passes"]:
                keywords = counter.keywords(responses["triples"])
                with model.trace(responses["inputs"], **keywords):
                    counter.response(responses["target"])
            tables.append(counter.packed())
    return backend_of(tracer)


def unpacked(table: Sequence[Tensor], width: int) -> SparseTable:
    """Rebuild a sparse table from what `graph.count.pack` made of it."""
    csr_array = late("scipy.sparse").csr_array

    indptr, columns, values = (tensor.numpy() for tensor in table)
    return csr_array((values, columns, indptr), shape=(len(indptr) - 1, width))
