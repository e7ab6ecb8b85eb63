"""What is known of one invocation when it ends: for its line in the log and for /metrics."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

RECORD = "serve.record"
"""The key of an invocation's record in its WSGI environment."""

RECEIVED_AT: ContextVar[float] = ContextVar("RECEIVED_AT")
"""When the headers of the request that this thread answers were complete (monotonic clock)."""


@dataclass
class InvocationRecord:
    """Filled while an invocation is answered, by its thread and by the engine's.

    Attributes:
        observe: called with the record, the HTTP status and the seconds it took, once the response
            is sent.
        received: bytes of the body, inflated.
        images: how many it holds.
        decode: seconds its body was parsed and its images were decoded.
        queue: seconds it waited for a core to decode, and the longest that an image waited for the
            engine.
        compute: seconds of the forward passes its images were in, and of heat maps.
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
        """Take an image's wait for its forward pass."""
        self._engine_wait = max(self._engine_wait, seconds)
