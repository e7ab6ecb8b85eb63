"""Why a request gets no prediction; `serve.http.responses` turns each into an HTTP response."""

from collections.abc import Mapping


class BadRequest(Exception):
    """The request is wrong; the message is one line for the client.

    Attributes:
        status: the HTTP status.
        headers: what the response has besides.
    """

    def __init__(
        self, message: str, status: int = 400, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class NotReady(Exception):
    """The model is not loaded; the message holds the server's state."""


class Overloaded(Exception):
    """Queues, memory or processor cores are in use by other requests."""


class OutOfMemory(Exception):
    """A model needs more memory than models that are not in use can leave."""


class TimedOut(Exception):
    """The deadline passed before the prediction was made."""


class EngineFailed(Exception):
    """The forward pass raised, or the engine has stopped."""


def one_line(text: str) -> str:
    """`text` without control characters, at most 200 characters of it."""
    return "".join(c if c.isprintable() else " " for c in text[:200])
