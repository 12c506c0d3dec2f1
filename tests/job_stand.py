"""A job of NDIF that is run here, for tests of what is sent and what comes back."""

from typing import Any

from dspa_nn.counts import passes


class JobStand:
    """What nnsight's backend is to a count, the job run here: `submit` returns one."""

    def __init__(self, model: Any, counter: Any, chunk: Any) -> None:
        self.model, self.counter, self.chunk = model, counter, chunk
        self.job_id, self.state = "job", None

    def __call__(self) -> dict[str, Any]:
        tables = []
        for tensors in self.chunk:
            passes.run_traces(self.model, self.counter, tensors)
            tables.append(self.counter.packed())
        return {"tables": tables}
