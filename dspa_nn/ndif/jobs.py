"""Jobs that run on NDIF while nobody waits: ask after them and collect them, from any process."""

import json
import time
from pathlib import Path
from typing import Any

from dspa_nn.errors import FileError, NDIFError
from dspa_nn.files import write_atomically


class Job:
    """A job that was submitted with `blocking=False`.

    Example:
        >>> with model.generate(prompt, remote=True, blocking=False) as tracer:
        ...     edits = dspa.apply(map)
        ...     ids = tracer.result.save()
        >>> Job.of(tracer).save("job.json")

    and later, in another process:
        >>> found = Job.load("job.json").result()
        >>> print(found["edits"])

    Attributes:
        job_id, host: what a job is known by. The API key is taken from the environment and never
            stored.
    """

    def __init__(self, job_id: str, host: str | None = None) -> None:
        from dspa_nn.ndif.backend import Backend

        self._backend = Backend("", host=host, blocking=False, job_id=job_id)
        self._backend.display.enabled = False
        self.job_id, self.host = job_id, self._backend.host
        self._result: dict[str, Any] | None = None

    @classmethod
    def of(cls, tracer: Any) -> "Job":
        """Return the job that a block with `blocking=False` became.

        Raises:
            NDIFError: the block was not submitted that way.
        """
        backend: Any = getattr(tracer, "backend", None)
        if getattr(backend, "job_id", None) is None:
            raise NDIFError(
                "this block has no job: write model.generate(..., remote=True, blocking=False) "
                "as tracer, and ask after the block"
            )
        return cls(backend.job_id, backend.host)

    @property
    def status(self) -> str:
        """RECEIVED, QUEUED, RUNNING, COMPLETED and so on; UNKNOWN before the first news.

        Raises:
            NDIFError: the job failed, or the server does not answer.
        """
        if self._result is None:
            self._result = self._backend()
        return "UNKNOWN" if self._backend.status is None else self._backend.status.value

    def result(
        self, timeout: float | int | None = None, every: float | int = 0.5
    ) -> dict[str, Any]:
        """Wait for the values that the block saved, by name; an edit log is an `EditLog`.

        timeout: seconds to wait at most; every: seconds between questions.

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

    def cancel(self) -> None:
        """Cancel the job: NDIF lets only its operator do so, and this says how.

        Raises:
            NDIFError: always.
        """
        raise NDIFError(
            f"NDIF takes no cancellation from a client; on a server of your own run `ndif kill "
            f"{self.job_id}`, elsewhere let the job end and leave its result"
        )

    def save(self, path: str | Path) -> None:
        """Write id and host, and nothing else, as JSON."""
        about = {"schema_version": 1, "job_id": self.job_id, "host": self.host}
        write_atomically(path, json.dumps(about))

    @classmethod
    def load(cls, path: str | Path) -> "Job":
        """Read what `save` wrote.

        Raises:
            FileError: there is no such file, or it is no job.
        """
        try:
            about = json.loads(Path(path).read_text())
            return cls(about["job_id"], about["host"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"{Path(path).name} holds no job ({type(error).__name__}); give a file that "
                "Job.save wrote"
            ) from error
