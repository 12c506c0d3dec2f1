"""Counting on NDIF: one job a chunk of planned batches, several in flight, resumable.

The model and the two encoders meet on the server, and sparse counts are all that comes back. A
chunk that is stored is never run again; a job that was still on its way when the client died is
collected by its id.
"""

import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nnsight import save

from dspa_nn.counts import passes as counting
from dspa_nn.counts.batches import Job, to_tensors
from dspa_nn.counts.table import ActivationCounts, Block
from dspa_nn.errors import CountsError, DSPAWarning, NDIFError
from dspa_nn.files import write_atomically
from dspa_nn.ndif import backend_of, new_backend
from dspa_nn.shipping import TRAVELS

IN_FLIGHT = 2
# Seconds without news of a job, or without an answer of the server, before it counts as lost.
PATIENCE = 300.0
# The same for a job of an earlier process that the server does not know (any more).
UNKNOWN_PATIENCE = 20.0
# How often a chunk is submitted before the run is given up.
ATTEMPTS = 3
POLL_EVERY = 0.5


class Run:
    """One remote count: which chunk is where.

    counter: a `graph.count.Counter`; batches: positions in `jobs`; checkpoint: folder for finished
    chunks and the ids of those under way, or None.
    """

    def __init__(
        self,
        model: Any,
        counter: Any,
        jobs: Sequence[Job],
        batches: list[list[int]],
        provenance: dict[str, Any],
        checkpoint: Path | None,
    ) -> None:
        self.model, self.counter, self.jobs = model, counter, jobs
        self.provenance, self.checkpoint = provenance, checkpoint
        size = counting.BATCHES_PER_CHUNK
        self.chunks = [
            [[jobs[place] for place in batch] for batch in batches[start : start + size]]
            for start in range(0, len(batches), size)
        ]
        self.widths = counter.input_encoder.width, counter.output_encoder.width
        self.attempts = [0] * len(self.chunks)
        self.underway: dict[int, Any] = {}  # chunk -> its backend
        self.heard: dict[int, float] = {}

    def count(self, progress: Callable[[int], Any]) -> ActivationCounts:
        """Run what is not stored, and return the whole table."""
        done: dict[int, ActivationCounts] = {}
        for number in range(len(self.chunks)):
            if self.checkpoint is None:
                continue
            indices = [job.index for batch in self.chunks[number] for job in batch]
            stored = counting.stored(self._folder(number), self.provenance, indices)
            if stored is not None:
                done[number] = stored
        self._take_up(set(done))
        waiting = [n for n in range(len(self.chunks)) if n not in done and n not in self.underway]
        progress(sum(len(batch) for n in done for batch in self.chunks[n]))
        while len(done) < len(self.chunks):
            while waiting and len(self.underway) < IN_FLIGHT:
                self._submit(waiting.pop(0))
            for number in list(self.underway):
                found = self._poll(number)
                if found is None:
                    continue
                counts = self._check(number, found)
                if self.checkpoint is not None:
                    counts.save(self._folder(number))
                done[number] = counts
                del self.underway[number]
                self._note()
                progress(sum(len(batch) for batch in self.chunks[number]))
            waiting += self._lost()
            time.sleep(POLL_EVERY)
        pieces = [done[number] for number in range(len(self.chunks))]
        return pieces[0].merge(*pieces[1:])

    def _folder(self, number: int) -> Path:
        assert self.checkpoint is not None
        return self.checkpoint / f"chunk-{number:05d}"

    def _submit(self, number: int) -> None:
        self.attempts[number] += 1
        budget = self.provenance["batch_plan"]["token_budget"]
        positions = counting.takes_positions(self.model)
        chunk = [to_tensors(batch, budget, positions=positions) for batch in self.chunks[number]]
        self._note(number)
        self.underway[number] = submit(self.model, self.counter, chunk)
        self.heard[number] = time.monotonic()
        self._note()

    def _note(self, next_one: int | None = None) -> None:
        """Keep the ids of jobs under way, so that another process can collect them.

        next_one: a chunk that is about to be submitted, whose job has no id yet.
        """
        if self.checkpoint is not None:
            ids = {str(number): backend.job_id for number, backend in self.underway.items()}
            if next_one is not None:
                ids[str(next_one)] = None
            self.checkpoint.mkdir(parents=True, exist_ok=True)
            write_atomically(self.checkpoint / "jobs.json", json.dumps(ids))

    def _take_up(self, done: set[int]) -> None:
        """Take up the jobs that an earlier process of this run left under way."""
        path = None if self.checkpoint is None else self.checkpoint / "jobs.json"
        if path is None or not path.exists():
            return
        for key, job_id in json.loads(path.read_text()).items():
            number = int(key)
            if job_id is None:
                warnings.warn(
                    f"chunk {number} was being submitted when the earlier run ended, so it may run "
                    "twice; only the job submitted now is used",
                    DSPAWarning,
                    stacklevel=4,
                )
            elif number not in done and number < len(self.chunks):
                self.underway[number] = new_backend(self.model, job_id=job_id)
                self.attempts[number] = 1
                self.heard[number] = time.monotonic()

    def _poll(self, number: int) -> Any:
        backend = self.underway[number]
        before = backend.state
        try:
            found = backend()
        except NDIFError as error:
            if backend.state == "ERROR":
                if self.attempts[number] >= ATTEMPTS or not error.passing:
                    raise
                self.heard[number] = -PATIENCE  # the job is over: submit it again
            return None
        if backend.state != before:
            self.heard[number] = time.monotonic()
        return found

    def _lost(self) -> list[int]:
        """Give up jobs of which nothing was heard; return their chunks, to be submitted again."""
        again = []
        for number in list(self.underway):
            known = self.underway[number].state is not None
            patience = PATIENCE if known else UNKNOWN_PATIENCE
            if time.monotonic() - self.heard[number] < patience:
                continue
            job_id = self.underway.pop(number).job_id
            if self.attempts[number] >= ATTEMPTS:
                raise NDIFError(
                    f"chunk {number} of {len(self.chunks)} was submitted {ATTEMPTS} times and "
                    "never came back; with checkpoint= the chunks that did are kept"
                )
            warnings.warn(
                f"job {job_id} was lost, so chunk {number} of {len(self.chunks)} is submitted "
                "again; if the job does finish, its result is not used",
                DSPAWarning,
                stacklevel=2,
            )
            again.append(number)
        return again

    def _check(self, number: int, found: dict[str, Any]) -> ActivationCounts:
        chunk = self.chunks[number]
        tables = found.get("found") or []
        wanted = [(2 * len(batch), 2 * len(batch)) for batch in chunk]
        came = [(len(prompt[0]) - 1, len(response[0]) - 1) for prompt, response in tables]
        if came != wanted:
            raise CountsError(
                f"chunk {number} came back with {came} rows a batch for {wanted} that were sent; "
                "client and server do not fit together: see dspa_nn.doctor()"
            )
        blocks = [self._block(batch, *table) for batch, table in zip(chunk, tables, strict=True)]
        return ActivationCounts.from_rows(
            blocks, d_in=self.widths[0], d_out=self.widths[1], provenance=self.provenance
        )

    def _block(self, batch: list[Job], prompt: Any, response: Any) -> Block:
        return counting.to_block(
            batch, unpacked(prompt, self.widths[0]), unpacked(response, self.widths[1])
        )


def submit(model: Any, counter: Any, chunk: list[dict[str, Any]]) -> Any:
    """Send one chunk as one job; return nnsight's backend, which asks after it when called."""
    from nnsight import register

    register(TRAVELS)
    with model.session(backend=new_backend(model)) as tracer:
        found = save([])
        for tensors in chunk:
            counter.begin(tensors)
            if tensors["prompt"] is not None:
                with model.trace(tensors["prompt"], use_cache=True):
                    counter.prompt(tensors)
            for own in tensors["passes"]:
                cache = counter.resume(own["triples"])
                with model.trace(own["inputs"], past_key_values=cache, use_cache=cache is not None):
                    counter.response(own["target"])
            found.append(counter.packed())
    return backend_of(tracer)


def unpacked(table: tuple[Any, Any, Any], width: int) -> Any:
    """Rebuild a sparse table from what `graph.count.pack` made of it."""
    from scipy.sparse import csr_array

    indptr, columns, values = (tensor.numpy() for tensor in table)
    return csr_array((values, columns, indptr), shape=(len(indptr) - 1, width))
