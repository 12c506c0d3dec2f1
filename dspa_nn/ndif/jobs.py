"""Jobs that run on NDIF while nobody waits: ask after them and collect them, from any process."""

import json
import time
from pathlib import Path
from typing import Any, NoReturn

from dspa_nn.errors import FileError, NDIFError
from dspa_nn.files import as_path, write_atomically
from dspa_nn.ndif.adapter import backend_of
from dspa_nn.ndif.backend import Backend


class Job:
    """A job that was submitted with `blocking=False`.

    Example:
        >>> with model.generate(prompt, remote=True, blocking=False) as tracer:  # doctest: +SKIP
        ...     edits = dspa.apply(map)
        ...     ids = tracer.result.save()
        >>> Job.of(tracer).save("job.json")  # doctest: +SKIP

    and later, in another process (neither is run as a test: both need a server):
        >>> values = Job.load("job.json").result()  # doctest: +SKIP
        >>> print(values["edits"])  # doctest: +SKIP

    Attributes:
        job_id, host: what a job is known by. The API key is taken from the environment and never
            stored.
    """

    def __init__(self, job_id: str, host: str | None = None) -> None:
        self._backend = Backend("", host=host, blocking=False, job_id=job_id)
        self._backend.quiet()
        self.job_id, self.host = job_id, self._backend.host
        self._result: dict[str, Any] | None = None

    @classmethod
    def of(cls, tracer: object) -> "Job":
        """Return the job that a block with `blocking=False` became.

        Example:
            >>> with model.trace("sun", remote=True, blocking=False) as tracer:  # doctest: +SKIP
            ...     logits = model.output.logits.save()
            >>> Job.of(tracer).status  # doctest: +SKIP
            'QUEUED'

        Raises:
            NDIFError: the block was not submitted that way.
        """
        backend = backend_of(tracer)
        if getattr(backend, "job_id", None) is None:
            raise NDIFError(
                "this block has no job: write model.generate(..., remote=True, blocking=False) "
                "as tracer, and ask after the block"
            )
        return cls(backend.job_id, backend.host)

    @property
    def status(self) -> str:
        """RECEIVED, QUEUED, RUNNING, COMPLETED and so on; UNKNOWN before the first news.

        What the server wrote last. Its queue and its model write side by side, so a job that
        already runs may be told as QUEUED; COMPLETED is always the last word.

        Example:
            >>> Job.load("job.json").status  # doctest: +SKIP
            'RUNNING'

        Raises:
            NDIFError: the job failed, or the server does not answer.
        """
        if self._result is None:
            self._result = self._backend()
        return self._backend.state or "UNKNOWN"

    def result(
        self, timeout: float | int | None = None, every: float | int = 0.5
    ) -> dict[str, Any]:
        """Wait for the values that the block saved, by name; an edit log is an `EditLog`.

        Example:
            >>> Job.load("job.json").result(timeout=60)["edits"]  # doctest: +SKIP

        Args:
            timeout: seconds to wait at most; None waits for as long as it takes.
            every: seconds between questions.

        Raises:
            NDIFError: the job failed, was unknown to the server, or is not done in time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.status != "COMPLETED" or self._result is None:
            if end is not None and time.monotonic() > end:
                raise NDIFError(
                    f"job {self.job_id} is {self.status} after {timeout:g} seconds; ask again "
                    "later, or submit the block again if the server does not know the job"
                )
            time.sleep(every)
        return self._result

    def cancel(self) -> NoReturn:
        """Refuse, and say who can cancel the job: NDIF takes no cancellation from a client.

        Example:
            >>> Job("f00", "http://127.0.0.1:8001").cancel()
            Traceback (most recent call last):
            dspa_nn.errors.NDIFError: NDIF takes no cancellation from a client; on a server of ...

        Raises:
            NDIFError: always.
        """
        raise NDIFError(
            f"NDIF takes no cancellation from a client; on a server of your own run `ndif kill "
            f"{self.job_id}`, elsewhere let the job end and leave its result"
        )

    def save(self, path: str | Path) -> None:
        """Write id and host, and nothing else, as JSON.

        Example:
            >>> Job("f00", "http://127.0.0.1:8001").save("job.json")
        """
        about = {"schema_version": 1, "job_id": self.job_id, "host": self.host}
        write_atomically(path, json.dumps(about))

    @classmethod
    def load(cls, path: str | Path) -> "Job":
        """Read what `save` wrote.

        Example:
            >>> Job("f00", "http://127.0.0.1:8001").save("job.json")
            >>> Job.load("job.json").job_id
            'f00'

        Raises:
            FileError: there is no such file, or it is no job.
        """
        try:
            about = json.loads(as_path(path).read_text())
            return cls(about["job_id"], about["host"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FileError(
                f"{path} holds no job ({type(error).__name__}); give a file that Job.save wrote"
            ) from error
