"""Running on NDIF: what is checked before sending, how it is sent, and what comes back.

A `DSPA` gives its model a backend of its own for `remote=True`. That backend looks through the
block before it is pickled, so that only the decoder rows travel that the block's maps can edit,
counts the bytes, refuses what the server cannot take, and turns every failure into one sentence.
"""

import traceback
import weakref
from collections.abc import Callable
from typing import Any

from nnsight.intervention.backends.remote import RemoteBackend
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from dspa_nn.errors import NDIFError
from dspa_nn.models.facts import for_ndif, require_weights
from dspa_nn.ndif.messages import explain
from dspa_nn.ndif.payload import check_fits, look_through, nbytes_of, too_large
from dspa_nn.ndif.sizes import MAX_REQUEST_BYTES, estimated
from dspa_nn.shipping import Shipment, shipping

# How often a submission that never reached the server is sent, and how often a job is asked after.
ATTEMPTS = 4
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0


def again_if(safe: Callable[[BaseException], bool]) -> Retrying:
    """Repeat what failed in a way that a repetition cannot harm, with growing pauses."""
    return Retrying(
        retry=retry_if_exception(safe),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(FIRST_WAIT, LONGEST_WAIT),
        reraise=True,
    )


def never_arrived(error: BaseException) -> bool:
    """Whether a submission failed before the server could take it: no second job can result."""
    import httpx

    return isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout))


def unanswered(error: BaseException) -> bool:
    """Whether a question after a job got no answer; asking changes nothing on the server."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


class Backend(RemoteBackend):
    """One request to NDIF.

    Attributes:
        sent, received: bytes of the request and of the result, compressed as they travelled.
        shipment: what of the toolkit was in the block.
        route: the model's `Route`, which adds up the bytes of all its requests, or None.
    """

    max_request_bytes = MAX_REQUEST_BYTES
    sent = 0
    received = 0
    shipment: Shipment | None = None
    route: "Route | None" = None

    def __call__(self, tracer: Any = None) -> Any:
        """Send a block and wait for it, or submit it, or ask after it: as nnsight's does."""
        try:
            return super().__call__(tracer)
        except Exception as error:  # noqa: BLE001 - nnsight's, httpx', websocket's, pickle's
            raise explain(error, self.host, self.api_key, self.model_key) from _cause(error)

    def _serialize(self, tracer: Any) -> bytes:
        from nnsight.intervention.serialization import reduce_block

        frame = tracer.info.frame
        block = reduce_block(tracer.node, frame.f_globals, dict(frame.f_locals))
        self.shipment = look_through((tracer, block))
        check_fits(self.shipment)
        limit = self.max_request_bytes
        if nbytes_of(self.shipment) > limit:
            # Compression may still make it fit: a look at samples spares packing what will not.
            expected = estimated(self.shipment)
            if expected > limit:
                raise NDIFError(too_large(self.shipment, expected, limit))
        with shipping(self.shipment):
            blob = super()._serialize(tracer)
        if len(blob) > limit:
            raise NDIFError(too_large(self.shipment, len(blob), limit))
        self.sent = len(blob)
        return blob

    def _post(self, request: Any, blob: bytes) -> Any:
        answer = again_if(never_arrived)(super()._post, request, blob)
        if self.route is not None:
            self.route.sent += len(blob)
        return answer

    def poll(self, tracer: Any = None) -> Any:
        """Ask after a job that was submitted: as nnsight's does, more than once if need be."""
        return again_if(unanswered)(super().poll, tracer)

    def finalize(self, content: bytes) -> Any:
        """Load a result, and note its size."""
        self.received = len(content)
        if self.route is not None:
            self.route.received += len(content)
        return super().finalize(content)


def _cause(error: Exception) -> BaseException | None:
    """Hide what a sentence already says; keep what might be a bug of ours."""
    known = type(error).__module__.split(".")[0] in ("nnsight", "httpx", "websocket", "dspa_nn")
    return None if known or isinstance(error, OSError) else error


class Route:
    """Makes the backends of one model: what `model._remote_backend` is replaced by.

    Attributes:
        last: the backend of the latest run, or None.
        sent, received: bytes of all requests and results so far, compressed as they travelled.
    """

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self.last: Backend | None = None
        self.sent = self.received = 0

    def __call__(
        self, remote: bool | str, blocking: bool = True, job_id: str | None = None,
        verbose: bool = False,
    ) -> Any:  # fmt: skip
        """Build the backend of one run, as `Remotable._remote_backend` does."""
        model: Any = self._model()
        if remote == "local":
            return type(model)._remote_backend(model, remote, blocking, job_id, verbose)
        try:
            key = model.to_model_key()
        except Exception as error:  # noqa: BLE001 - the hub's many errors
            raise NDIFError(
                f"the hub cannot be asked for the name of {model.repo_id!r} ({error}); connect to "
                "it, or build the model with dspa_nn.remote_model(repo_id)"
            ) from None
        self.last = Backend(
            key,
            host=remote if isinstance(remote, str) else None,
            env=model._remoteable_get_env(),
            blocking=blocking,
            job_id=job_id,
            verbose=verbose,
        )
        self.last.route = self
        return self.last

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # the model is named in a request, and this stays at home


class Hold:
    """Keeps a model that is to be run on NDIF from being loaded here by accident.

    nnsight loads the weights of a model that has none, be it of nine billion parameters, as soon as
    a block runs without `remote=True`. Called by the user, `model.dispatch()` still does.
    """

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)

    def __call__(self) -> None:
        """Load the model, unless a block is about to run on it."""
        model: Any = self._model()
        if any(frame.f_code.co_name == "interleave" for frame, _ in traceback.walk_stack(None)):
            require_weights(model, "a block")
        type(model).dispatch(model)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # on the server the model is loaded, and this stays at home


def adopt(model: Any) -> None:
    """Let a model's remote runs go through `Backend`; a model that knows no NDIF is left alone."""
    if hasattr(type(model), "_remote_backend") and "_remote_backend" not in vars(model):
        object.__setattr__(model, "_remote_backend", Route(model))
        if for_ndif(model):
            object.__setattr__(model, "dispatch", Hold(model))


def remote_model(repo_id: str, *, revision: str | None = None, **options: Any) -> Any:
    """Build an nnsight model without weights here, to be run with `remote=True`.

    Example:
        >>> model = remote_model("HuggingFaceTB/SmolLM2-135M-Instruct")
        >>> dspa = DSPA(model, input_sae=..., output_sae=..., input_layer=9, output_layer=24)

    Config and tokenizer come from the hub or its cache; without a connection (HF_HUB_OFFLINE=1)
    the id is taken as it is written.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from nnsight.modeling import huggingface
    from nnsight.modeling.transformers import TransformersModel
    from transformers import AutoTokenizer

    if HF_HUB_OFFLINE:
        huggingface._ID_CACHE[repo_id] = repo_id
    tokenizer = AutoTokenizer.from_pretrained(repo_id, revision=revision, padding_side="left")
    return TransformersModel(
        repo_id, task="text-generation", revision=revision, tokenizer=tokenizer, **options
    )
