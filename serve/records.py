"""The record of one invocation, for the access log and /metrics."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

RECORD = "serve.record"
"""The key of an invocation's record in its WSGI environment."""

RECEIVED_AT: ContextVar[float] = ContextVar("RECEIVED_AT")
"""When the headers of this thread's request were complete, on the monotonic clock."""


@dataclass
class InvocationRecord:
    """Filled by the threads of the invocation and of the engine.

    Attributes:
        observe: called with the record, the HTTP status and the seconds taken, once the response is
            sent.
        received: bytes of the inflated body.
        images: number of images.
        decode: seconds of parsing the body and decoding images.
        queue: seconds of waiting for a core to decode, plus the longest wait of an image for the
            engine.
        compute: seconds of forward passes with its images, and of heat maps.
    """

    observe: Callable[["InvocationRecord", int, float], None] = lambda _record, _status, _seconds: (
        None
    )
    received: int = 0
    images: int = 0
    decode: float = 0.0
    compute: float = 0.0
    _decode_wait: float = field(default=0.0, repr=False)
    _engine_wait: float = field(default=0.0, repr=False)

    @property
    def queue(self) -> float:
        """See the attributes."""
        return self._decode_wait + self._engine_wait

    def waited_to_decode(self, seconds: float) -> None:
        """Add a wait for a core."""
        self._decode_wait += seconds

    def waited_for_engine(self, seconds: float) -> None:
        """Record an image's wait for its forward pass."""
        self._engine_wait = max(self._engine_wait, seconds)
