"""Running on NDIF: what is checked before sending, how it is sent, and what comes back.

A `DSPA` gives its model a backend of its own for `remote=True`. That backend looks through the
block before it is pickled, so that only the decoder rows travel that the block's maps can edit,
counts the bytes, refuses what the server cannot take, and turns every failure into one sentence.
"""

import time
import weakref
from typing import Any

from nnsight.intervention.backends.remote import RemoteBackend, RemoteError

from dspa_nn.errors import NDIFError
from dspa_nn.payload import MAX_REQUEST_BYTES, Shipment, look_through, shipping
from dspa_nn.remote_errors import explain

# Submissions that never reached the server are repeated; nothing else is.
ATTEMPTS = 3


class Backend(RemoteBackend):
    """One request to NDIF.

    Attributes:
        sent, received: bytes of the request and of the result, compressed as they travelled.
        shipment: what of the toolkit was in the block.
    """

    max_request_bytes = MAX_REQUEST_BYTES
    sent = 0
    received = 0
    shipment: Shipment | None = None

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
        self.shipment.check()
        expected = self.shipment.nbytes()
        if expected > self.max_request_bytes:
            raise self._too_large(expected)
        with shipping(self.shipment):
            blob = super()._serialize(tracer)
        self.sent = len(blob)
        if self.sent > self.max_request_bytes:
            raise self._too_large(self.sent)
        return blob

    def _too_large(self, size: int) -> NDIFError:
        return NDIFError(
            f"the request would be {size:,} bytes, and the server takes "
            f"{self.max_request_bytes:,}; nothing was sent: see dspa.payload(map), and use a lower "
            "precision (payload_dtype='bfloat16') or narrower SAEs"
        )

    def _post(self, request: Any, blob: bytes) -> Any:
        import httpx

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return super()._post(request, blob)
            except RemoteError as error:
                never_arrived = isinstance(
                    error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout)
                )
                if not never_arrived or attempt == ATTEMPTS:
                    raise
                time.sleep(0.5 * 2**attempt)
        raise AssertionError

    def finalize(self, content: bytes) -> Any:
        """Load a result, and note its size."""
        self.received = len(content)
        return super().finalize(content)


def _cause(error: Exception) -> BaseException | None:
    """Hide what a sentence already says; keep what might be a bug of ours."""
    known = type(error).__module__.split(".")[0] in ("nnsight", "httpx", "websocket", "dspa_nn")
    return None if known or isinstance(error, OSError) else error


class Route:
    """Makes the backends of one model: what `model._remote_backend` is replaced by."""

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self.last: Backend | None = None

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
        return self.last

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # the model is named in a request, and this stays at home


def adopt(model: Any) -> None:
    """Let a model's remote runs go through `Backend`; a model that knows no NDIF is left alone."""
    if hasattr(type(model), "_remote_backend") and "_remote_backend" not in vars(model):
        object.__setattr__(model, "_remote_backend", Route(model))


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
