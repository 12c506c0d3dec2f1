"""One request to NDIF: what is checked before sending, how it is sent, and what comes back.

The block is looked through before it is pickled, so that only the decoder rows travel that its
maps can edit; what the server cannot take is refused, and every failure becomes one sentence.
"""

from collections.abc import Callable
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from dspa_nn.errors import NDIFError
from dspa_nn.ndif.adapter import HookedBackend
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


class Traffic:
    """Bytes that the remote runs of one model sent and received, compressed as they travelled."""

    def __init__(self) -> None:
        self.sent = self.received = 0


class Backend(HookedBackend):
    """One request to NDIF.

    Attributes:
        sent, received: bytes of the request and of the result, compressed as they travelled.
        shipment: what of the toolkit was in the block.
        traffic: where the bytes of all requests of the model are added up, or None.
    """

    max_request_bytes = MAX_REQUEST_BYTES
    sent = 0
    received = 0
    shipment: Shipment | None = None
    traffic: Traffic | None = None

    def on_run(self, step: Callable[[], Any]) -> Any:
        """Turn whatever goes wrong into one sentence."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - nnsight's, httpx', websocket's, pickle's
            raise explain(error, self.host, self.api_key, self.model_key) from _cause(error)

    def on_pack(self, content: object, step: Callable[[], bytes]) -> bytes:
        """Look the block through, and refuse what does not fit the model or the server."""
        self.shipment = look_through(content)
        check_fits(self.shipment)
        limit = self.max_request_bytes
        if nbytes_of(self.shipment) > limit:
            # Compression may still make it fit: a look at samples spares packing what will not.
            expected = estimated(self.shipment)
            if expected > limit:
                raise NDIFError(too_large(self.shipment, expected, limit))
        with shipping(self.shipment):
            blob = step()
        if len(blob) > limit:
            raise NDIFError(too_large(self.shipment, len(blob), limit))
        self.sent = len(blob)
        return blob

    def on_submit(self, step: Callable[[], Any], size: int) -> Any:
        """Send the request, again where it never arrived, and note its size."""
        answer = again_if(never_arrived)(step)
        if self.traffic is not None:
            self.traffic.sent += size
        return answer

    def on_poll(self, step: Callable[[], Any]) -> Any:
        """Ask after the job, more than once if need be."""
        return again_if(unanswered)(step)

    def on_receive(self, size: int) -> None:
        """Note the size of a result."""
        self.received = size
        if self.traffic is not None:
            self.traffic.received += size


def _cause(error: Exception) -> BaseException | None:
    """Hide what a sentence already says; keep what might be a bug of ours."""
    known = type(error).__module__.split(".")[0] in ("nnsight", "httpx", "websocket", "dspa_nn")
    return None if known or isinstance(error, OSError) else error
