"""Errors of requests; `serve.http.responses` turns each into an HTTP response."""

from collections.abc import Mapping


class BadRequest(Exception):
    """The request is invalid; the message is one line for the client.

    Attributes:
        status: the HTTP status.
        headers: additional headers of the response.
    """

    def __init__(
        self, message: str, status: int = 400, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class NotReady(Exception):
    """The model is not loaded; the message has the server's state."""


class Overloaded(Exception):
    """Other requests use all of the queue, the memory or the CPU cores."""


class OutOfMemory(Exception):
    """A model needs more memory than evicting all idle models would free."""


class TimedOut(Exception):
    """The deadline passed before the prediction was made."""


class EngineFailed(Exception):
    """The forward pass failed, or the engine has stopped."""


def one_line(text: str) -> str:
    """At most 200 characters of `text`, with control characters replaced by spaces."""
    return "".join(c if c.isprintable() else " " for c in text[:200])
