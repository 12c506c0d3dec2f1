# pyright: reportPrivateUsage=false
"""All that this package knows of nnsight 0.8's inner workings, on the user's side of a remote run.

What is private to nnsight, or may change with its next version, is named here and nowhere else
outside `graph/` (`tests/test_house.py` holds this to be so), but for two things that lie deeper:
the torch module behind a model (`models.torch_module`) and the mounted `.save` (`imports.py`). The
rest of the toolkit uses `from nnsight import CONFIG, register, save` and nnsight's
`TransformersModel`.
"""

import io
import traceback
from collections.abc import Callable
from typing import Any, cast

from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.intervention.backends.remote import RemoteError as RemoteError
from torch import Tensor

# nnsight's function that drives a model and the blocks on it.
_DRIVER = "interleave"


class HookedBackend(RemoteBackend):
    """nnsight's backend of one request, with a hook at every step that a subclass may take part in.

    Each hook is given the step itself as a function, and returns what that returns.
    """

    def __call__(self, tracer: Any = None) -> Any:
        """Send a block and wait for it, or submit it, or ask after it: as nnsight's does."""
        return self.on_run(lambda: RemoteBackend.__call__(self, tracer))

    def _serialize(self, tracer: Any) -> bytes:
        return self.on_pack(
            (tracer, block_of(tracer)), lambda: RemoteBackend._serialize(self, tracer)
        )

    def _post(self, request: Any, blob: bytes) -> Any:
        return self.on_submit(lambda: RemoteBackend._post(self, request, blob), len(blob))

    def poll(self, tracer: Any = None) -> Any:
        """Ask after a job that was submitted: as nnsight's does."""
        return self.on_poll(lambda: RemoteBackend.poll(self, tracer))

    def finalize(self, content: bytes) -> Any:
        """Load a result."""
        self.on_receive(len(content))
        return RemoteBackend.finalize(self, content)

    @property
    def state(self) -> str | None:
        """RECEIVED, QUEUED, RUNNING, COMPLETED, ERROR and so on; None before the first news."""
        return None if self.status is None else str(self.status.value)

    def quiet(self) -> None:
        """Print nothing of what becomes of the job."""
        self.display.enabled = False

    def on_run(self, step: Callable[[], Any]) -> Any:
        """The whole run."""
        return step()

    def on_pack(self, content: object, step: Callable[[], bytes]) -> bytes:
        """Pickling and compressing the request; content: all that the block uses."""
        return step()

    def on_submit(self, step: Callable[[], Any], size: int) -> Any:
        """Sending the request, of `size` bytes."""
        return step()

    def on_poll(self, step: Callable[[], Any]) -> Any:
        """Asking after the job."""
        return step()

    def on_receive(self, size: int) -> None:
        """A result of `size` bytes has come."""


def block_of(tracer: Any) -> object:
    """The source of a traced block, and the variables that it uses."""
    from nnsight.intervention.serialization import (
        reduce_block,  # pyright: ignore[reportUnknownVariableType]
    )

    frame = tracer.info.frame
    return cast(Any, reduce_block)(tracer.node, frame.f_globals, dict(frame.f_locals))


def backend_of(tracer: object) -> Any:
    """The backend that a block was run with, or None."""
    return getattr(tracer, "backend", None)


def pickled(value: object) -> bytes:
    """A value as nnsight sends it, uncompressed.

    >>> len(pickled([1, 2, 3])) < 100
    True
    """
    from nnsight.intervention.serialization import dumps

    return dumps(value)


def walk(value: object) -> None:
    """Go through all that would be pickled with a value, without copying a tensor."""
    from nnsight.intervention.serialization import DEFAULT_PROTOCOL, CustomCloudPickler

    class Walker(CustomCloudPickler):
        def persistent_id(self, obj: Any) -> Any:
            return "tensor" if isinstance(obj, Tensor) else super().persistent_id(obj)

    walker: Any = Walker(io.BytesIO(), protocol=DEFAULT_PROTOCOL)
    walker.dump(value)


def can_run_remotely(model: object) -> bool:
    """Whether a model is one of nnsight's that knows NDIF."""
    return hasattr(type(model), "_remote_backend")


def backend_maker(model: object) -> Any:
    """What makes the backends of a model: nnsight's method, or what replaced it.

    >>> backend_maker(dspa.model).sent
    0
    """
    return getattr(model, "_remote_backend", None)


def has_backend_maker(model: object) -> bool:
    """Whether `replace_backend_maker` was called for a model."""
    return "_remote_backend" in vars(model)


def replace_backend_maker(model: object, maker: Callable[..., Any]) -> None:
    """Let `maker(remote, blocking, job_id, verbose)` make the backends of a model's remote runs."""
    object.__setattr__(model, "_remote_backend", maker)


def local_simulation(model: Any, blocking: bool, job_id: str | None, verbose: bool) -> Any:
    """Nnsight's backend of `remote="local"`, which packs a block and runs it in this process."""
    return cast(Any, type(model))._remote_backend(model, "local", blocking, job_id, verbose)


def new_backend(model: Any, *, job_id: str | None = None) -> HookedBackend:
    """A backend that submits one job, or asks after `job_id`, without waiting or printing."""
    backend: HookedBackend = model._remote_backend(True, False, job_id)
    backend.quiet()
    return backend


def environment_of(model: Any) -> dict[str, Any]:
    """What nnsight has a server apply to a model before a run, such as an adapter."""
    return model._remoteable_get_env()


def replace_dispatch(model: object, load: Callable[[], None]) -> None:
    """Let `load()` be called where nnsight would load a model's weights."""
    object.__setattr__(model, "dispatch", load)


def dispatch(model: Any) -> None:
    """Load a model's weights, as nnsight does."""
    cast(Any, type(model)).dispatch(model)


def block_is_running() -> bool:
    """Whether this is called while nnsight runs a block, not by the user."""
    return any(frame.f_code.co_name == _DRIVER for frame, _ in traceback.walk_stack(None))


def take_id_as_written(repo_id: str) -> None:
    """Let nnsight name a model by an id as it stands, where the hub cannot be asked."""
    from nnsight.modeling import huggingface

    huggingface._ID_CACHE[repo_id] = repo_id
