"""Models that run on NDIF: built without weights, with backends of our own."""

import weakref
from typing import Any

from dspa_nn.errors import NDIFError
from dspa_nn.models import for_ndif, load_named, require_weights
from dspa_nn.ndif import adapter
from dspa_nn.ndif.backend import Backend, Traffic


class BackendFactory(Traffic):
    """Makes the backends of one model's remote runs, in the place of nnsight's method.

    Attributes:
        last: the backend of the latest run, or None.
        sent, received: bytes of all requests and results so far, compressed as they travelled.
    """

    def __init__(self, model: object) -> None:
        super().__init__()
        self._model = weakref.ref(model)
        self.last: Backend | None = None

    def __call__(
        self, remote: bool | str, blocking: bool = True, job_id: str | None = None,
        verbose: bool = False,
    ) -> Any:  # fmt: skip
        """Build the backend of one run; remote: True, a host, or "local" for nnsight's double."""
        model: Any = self._model()
        if remote == "local":
            return adapter.local_simulation(model, blocking, job_id, verbose)
        try:
            key: str = model.to_model_key()
        except Exception as error:  # noqa: BLE001 - the hub's many errors
            raise NDIFError(
                f"the hub cannot be asked for the name of {model.repo_id!r} ({error}); connect to "
                "it, or build the model with dspa_nn.remote_model(repo_id)"
            ) from None
        self.last = Backend(
            key,
            host=remote if isinstance(remote, str) else None,
            env=adapter.environment_of(model),
            blocking=blocking,
            job_id=job_id,
            verbose=verbose,
        )
        self.last.traffic = self
        return self.last

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # a request names the model, and this stays on the user's machine


class DispatchGuard:
    """Keeps a model that is to be run on NDIF from being loaded here by accident.

    nnsight loads the weights of a model that has none, be it of nine billion parameters, as soon as
    a block runs without `remote=True`. Called by the user, `model.dispatch()` still does.
    """

    def __init__(self, model: object) -> None:
        self._model = weakref.ref(model)

    def __call__(self) -> None:
        """Load the model, unless a block is about to run on it."""
        model = self._model()
        if adapter.block_is_running():
            require_weights(model, "a block")
        adapter.dispatch(model)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # a server has the model loaded, and this stays on the user's machine


def adopt(model: object) -> None:
    """Let a model's remote runs go through `Backend`; a model that knows no NDIF is left alone.

    >>> adopt(dspa.model)
    """
    if adapter.can_run_remotely(model) and not adapter.has_backend_maker(model):
        adapter.replace_backend_maker(model, BackendFactory(model))
        if for_ndif(model):
            adapter.replace_dispatch(model, DispatchGuard(model))


def backend_factory(model: object) -> BackendFactory:
    """What makes the backends of a model that `adopt` was given: it knows the latest one.

    >>> backend_factory(dspa.model).received
    0

    Raises:
        NDIFError: the model belongs to no `DSPA` yet.
    """
    factory = adapter.backend_maker(model)
    if not isinstance(factory, BackendFactory):
        raise NDIFError(
            f"a {type(model).__name__} came that belongs to no DSPA: build DSPA(model, ...) first"
        )
    return factory


def remote_model(repo_id: str, *, revision: str | None = None, **options: Any) -> Any:
    """Build an nnsight model without weights here, to be run with `remote=True`.

    Example:
        >>> model = remote_model("HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +SKIP
        >>> dspa = DSPA.from_preset("smollm2-135m-instruct", model)  # doctest: +SKIP

    Config and tokenizer come from the hub or its cache (which is why this is not run as a test);
    without a connection (HF_HUB_OFFLINE=1) the id is taken as it is written.

    Args:
        repo_id: the model's id on the hub, as the server knows it.
        revision: a branch, tag or commit; None is the main one.
        options: further keywords of nnsight's `TransformersModel`.

    Raises:
        DSPAError: neither the hub nor its cache has config and tokenizer of the model.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        adapter.take_id_as_written(repo_id)
    return load_named(repo_id, dispatch=False, revision=revision, **options)
