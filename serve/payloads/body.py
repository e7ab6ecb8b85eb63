"""Reads a request body, limiting its size, its time and the memory of all bodies."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Protocol

from serve.errors import BadRequest, Overloaded, one_line
from serve.payloads.codings import Decoder, decoder

PIECE = 64 * 1024
DISCARD = 256 * 1024 * 1024
"""Most bytes of a refused body to read and drop: clients read no response while they send."""


class Stream(Protocol):
    """The methods of `wsgi.input` that are used."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class Admitted:
    """A request admitted by an `Admission`, and the bytes of its body."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0

    def add(self, size: int) -> None:
        """Count `size` received bytes. Raises Overloaded above the limit of all bodies."""
        self._admission.take(size)
        self.size += size


class Admission:
    """Limits concurrent requests and the bytes of their bodies.

    Without the second limit, requests that are each small enough could together exhaust memory.
    Bytes count once they are received, not when a client announces them.
    """

    def __init__(self, requests: int, payload: int) -> None:
        self._lock = threading.Lock()
        self._requests = requests
        self._bytes = payload

    @contextmanager
    def admit(self, size: int = 0, *, announced: int = 0) -> Iterator[Admitted]:
        """Count a request, its `size` bytes and those added later, until the block ends.

        Raises Overloaded if the request or its `announced` bytes exceed a limit.
        """
        admitted = Admitted(self)
        with self._lock:
            if self._requests < 1 or self._bytes < announced:
                raise Overloaded("the limit of concurrent requests is reached")
            self._requests -= 1
        try:
            admitted.add(size)
            yield admitted
        finally:
            with self._lock:
                self._requests += 1
                self._bytes += admitted.size

    def take(self, size: int) -> None:
        """Reserve bytes. Raises Overloaded if fewer are left."""
        with self._lock:
            if self._bytes < size:
                raise Overloaded("the limit on the bytes of concurrent requests is reached")
            self._bytes -= size


def declared_length(environ: dict[str, Any]) -> int | None:
    """Content-Length; None for a chunked body, whose size is unknown.

    Raises BadRequest if it is not a number.
    """
    text = environ.get("CONTENT_LENGTH") or ""
    if not text:
        return None if environ.get("HTTP_TRANSFER_ENCODING") else 0
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"Content-Length: found {text[:40]!r}, expected a whole number of bytes")
    return int(text) if len(text) < 19 else sys.maxsize


def read_body(
    environ: dict[str, Any],
    limit: int,
    deadline: float,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Read and decode the body, by `deadline` on the monotonic clock.

    At most `limit` bytes are read, and at most `limit` inflated. `on_bytes` is called with the size
    of each inflated piece and may raise to refuse it.

    Raises BadRequest: 413 above the limit, whether declared, received or inflated; 415 for an
    unknown coding; 408 past the deadline; 400 if the connection ended too early or the body does
    not match its Content-Encoding.
    """
    declared = declared_length(environ)
    try:
        if declared is not None and declared > limit:
            raise _too_large(f"{declared:,} bytes", limit)
        coding = decoder(environ.get("HTTP_CONTENT_ENCODING", ""))
        return _read(environ["wsgi.input"], declared, limit, deadline, on_bytes, coding)
    except BadRequest:
        _discard(environ["wsgi.input"], deadline)
        raise
    except Overloaded:
        raise
    except TimeoutError:
        raise BadRequest("request body: the rest of it did not arrive in time", 408) from None
    # gunicorn's parser of chunks and trailers has its own exceptions.
    except Exception as error:
        reason = one_line(str(error))
        raise BadRequest(
            f"request body: cannot be read ({reason}), expected the number of bytes in "
            "Content-Length, or complete chunks"
        ) from None


def _read(
    stream: Stream,
    declared: int | None,
    limit: int,
    deadline: float,
    on_bytes: Callable[[int], None],
    coding: Decoder,
) -> bytes:
    pieces: list[bytes] = []
    total = inflated = 0
    try:
        while declared is None or total < declared:
            piece = stream.read(PIECE if declared is None else min(PIECE, declared - total))
            if not piece:
                break
            total += len(piece)
            if total > limit:
                raise _too_large(f"more than {limit:,} bytes", limit)
            if monotonic() > deadline:
                raise TimeoutError
            for part in coding.decode(piece):
                inflated += len(part)
                if inflated > limit:
                    raise _too_large(f"more than {limit:,} bytes compressed in it", limit)
                on_bytes(len(part))
                pieces.append(part)
        if declared is not None and total < declared:
            raise BadRequest(f"request body: found {total:,} bytes, expected {declared:,}")
        coding.end()
        return b"".join(pieces)
    finally:
        # A traceback would keep them while the rest of the body is read and dropped.
        pieces.clear()


def _discard(stream: Stream, deadline: float) -> None:
    """Drop a refused body, so that the client reads the response; give up on a slow client."""
    dropped = 0
    with suppress(Exception):
        while dropped < DISCARD and monotonic() < deadline and (piece := stream.read(PIECE)):
            dropped += len(piece)


def _too_large(found: str, limit: int) -> BadRequest:
    return BadRequest(
        f"request body: found {found}, expected at most {limit:,} "
        "(set by SAGEMAKER_MAX_PAYLOAD_IN_MB)",
        413,
    )
