"""Reads a request body within bounds on its size, its time and the memory of all bodies."""

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
"""Most bytes of a refused body read and dropped: a client reads no response while it sends."""


class Stream(Protocol):
    """The part of `wsgi.input` that is used."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class Admitted:
    """A request that counts in an `Admission`, and the bytes of its body."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0

    def add(self, size: int) -> None:
        """Count `size` received bytes. Raises Overloaded above the bound of all bodies."""
        self._admission.take(size)
        self.size += size


class Admission:
    """Bounds how many requests, and bytes of their bodies, are handled at once.

    Without the second bound, requests that are each within the limit together exhaust the memory.
    Bytes count once they are received, not when a client announces them.
    """

    def __init__(self, requests: int, payload: int) -> None:
        self._lock = threading.Lock()
        self._requests = requests
        self._bytes = payload

    @contextmanager
    def admit(self, size: int = 0, *, announced: int = 0) -> Iterator[Admitted]:
        """Count a request, with `size` bytes and those it adds later, until the block ends.

        Raises Overloaded when the request, or the bytes `announced`, exceed a bound.
        """
        admitted = Admitted(self)
        with self._lock:
            if self._requests < 1 or self._bytes < announced:
                raise Overloaded("as many requests as fit are being answered")
            self._requests -= 1
        try:
            admitted.add(size)
            yield admitted
        finally:
            with self._lock:
                self._requests += 1
                self._bytes += admitted.size

    def take(self, size: int) -> None:
        """Reserve bytes. Raises Overloaded when fewer are left."""
        with self._lock:
            if self._bytes < size:
                raise Overloaded("as many bytes of requests as fit are being answered")
            self._bytes -= size


def declared_length(environ: dict[str, Any]) -> int | None:
    """Content-Length; None for a chunked body, whose size is not known.

    Raises BadRequest for a length that is no number.
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
    """The whole body without its Content-Encoding, by `deadline` on the monotonic clock.

    At most `limit` bytes are taken, and as many are made of them. `on_bytes` is called with the
    size of each piece, inflated, and may raise to refuse it.

    Raises BadRequest: 413 above the limit, whether declared, received or inflated; 415 for an
    unknown coding; 408 past the deadline; 400 when the connection ended before the body did, or
    the body is not what its Content-Encoding says.
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
    # gunicorn's parser of chunks and trailers has exceptions of its own.
    except Exception as error:
        reason = one_line(str(error))
        raise BadRequest(
            f"request body: cannot be read ({reason}), expected as many bytes as Content-Length "
            "says, or whole chunks"
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
        # An exception's traceback would keep them while the rest of the body is dropped.
        pieces.clear()


def _discard(stream: Stream, deadline: float) -> None:
    """Drop a refused body, so that the client reads the response; give up on a slow one."""
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
