"""A request body read whole, but never more of it than allowed, nor for longer than allowed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol

from serve.images import BadRequest

PIECE = 64 * 1024
DISCARD = 256 * 1024 * 1024
"""Most bytes of a refused body read and dropped: a client still sending would never see why."""


class Stream(Protocol):
    """The part of `wsgi.input` that is used."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class Crowded(Exception):
    """As many requests are in the building as fit."""


class Admission:
    """How many requests, and bytes of their bodies, may be inside at once.

    Without the second bound, requests that are each within the limit together exhaust the memory.
    """

    def __init__(self, requests: int, payload: int) -> None:
        self._lock = threading.Lock()
        self._requests = requests
        self._bytes = payload

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Hold a place and `size` bytes. Raises Crowded when there is no room."""
        with self._lock:
            if self._requests < 1 or self._bytes < size:
                raise Crowded("as many requests as fit are being answered")
            self._requests -= 1
            self._bytes -= size
        try:
            yield
        finally:
            with self._lock:
                self._requests += 1
                self._bytes += size


def declared_length(environ: dict[str, Any]) -> int | None:
    """Content-Length; None when the body comes in chunks and its size is not known.

    Raises BadRequest for a length that is no number.
    """
    text = environ.get("CONTENT_LENGTH") or ""
    if not text:
        return None if environ.get("HTTP_TRANSFER_ENCODING") else 0
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"Content-Length: found {text[:40]!r}, expected a whole number of bytes")
    return int(text)


def read_body(environ: dict[str, Any], limit: int, deadline: float) -> bytes:
    """The whole body, at most `limit` bytes, by `deadline` on the monotonic clock.

    Raises BadRequest: 413 above the limit, whether declared or not; 408 past the deadline;
    400 when the connection ended before the body did.
    """
    declared = declared_length(environ)
    try:
        _bound_waiting(environ, deadline)
        if declared is not None and declared > limit:
            _discard(environ["wsgi.input"], deadline)
            raise _too_large(f"{declared:,}", limit)
        return _read(environ["wsgi.input"], declared, limit, deadline)
    except TimeoutError:
        raise BadRequest("request body: the rest of it did not arrive in time", 408) from None
    except OSError as error:
        raise BadRequest(f"request body: cannot be read ({error})") from None


def _read(stream: Stream, declared: int | None, limit: int, deadline: float) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while declared is None or total < declared:
        piece = stream.read(PIECE if declared is None else min(PIECE, declared - total))
        if not piece:
            break
        total += len(piece)
        if total > limit:
            pieces.clear()
            _discard(stream, deadline)
            raise _too_large(f"more than {limit:,}", limit)
        if monotonic() > deadline:
            raise TimeoutError
        pieces.append(piece)
    if declared is not None and total < declared:
        raise BadRequest(f"request body: found {total:,} bytes, expected {declared:,}")
    return b"".join(pieces)


def _discard(stream: Stream, deadline: float) -> None:
    dropped = 0
    while dropped < DISCARD and monotonic() < deadline and (piece := stream.read(PIECE)):
        dropped += len(piece)


def _bound_waiting(environ: dict[str, Any], deadline: float) -> None:
    # gunicorn makes the socket blocking again before it reads the connection's next request.
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(max(0.1, deadline - monotonic()))


def _too_large(found: str, limit: int) -> BadRequest:
    return BadRequest(
        f"request body: found {found} bytes, expected at most {limit:,} "
        "(set by SAGEMAKER_MAX_PAYLOAD_IN_MB)",
        413,
    )
