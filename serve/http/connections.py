"""A client's connection: its buffered request, its deadlines and its error responses.

Deadlines are those of Apache's mod_reqtimeout: 20 s for the headers; 20 s for a body, plus a second
for every 500 bytes received.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Any

from gunicorn.http import errors, get_parser
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn

from serve.errors import one_line
from serve.http.framing import (
    CONTINUE,
    MAX_CHUNK_LINE,
    ChunkedBody,
    SizedBody,
    body_of,
    without_expectation,
)

HEADER_SECONDS = 20.0
BODY_SECONDS = 20.0
MIN_BYTES_PER_SECOND = 500.0
"""Lowest rate of a body."""

MAX_BODY_SECONDS = 55.0
"""Seconds for any body: SageMaker ends an invocation after 60."""

SEND_SECONDS = 20.0
"""Seconds for a client to read a response."""

UNREAD_SECONDS = 0.01
"""Seconds to read the unused rest of a body; then the connection is closed."""

PIECE = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024


class BoundedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads from a socket until a deadline that moves as bytes arrive. Raises TimeoutError."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, PIECE)
        self.begin(monotonic())

    def begin(self, since: float, ahead: bytes | memoryview = b"") -> None:
        """Start a body whose headers were complete at `since`; `ahead` was received already."""
        self._ahead = memoryview(ahead)
        self._started = since
        self._arrived = len(ahead)
        self._end = since + MAX_BODY_SECONDS

    def end_within(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        self._end = monotonic() + seconds

    def chunk(self) -> bytes:
        """The next bytes; none at the end."""
        if self._ahead:
            piece, self._ahead = bytes(self._ahead[:PIECE]), self._ahead[PIECE:]
            return piece
        left = min(body_deadline(self._started, self._arrived), self._end) - monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        try:
            data: bytes = self.sock.recv(self.mxchunk)
        finally:
            self.sock.settimeout(SEND_SECONDS)
        self._arrived += len(data)
        return data

    def take_buffered(self) -> bytes:
        """The bytes already received of the next request."""
        data: bytes = super().take_buffered() + bytes(self._ahead)
        self._ahead = memoryview(b"")
        return data


def body_deadline(since: float, arrived: int) -> float:
    """The deadline of a body begun at `since`, of which `arrived` bytes were received."""
    return since + min(MAX_BODY_SECONDS, BODY_SECONDS + arrived / MIN_BYTES_PER_SECOND)


class Connection(TConn):  # type: ignore[misc]
    """A connection that buffers the next request, if its body is not too long, for a thread."""

    received_at = 0.0
    """When the request's headers were complete, on the monotonic clock."""

    def __init__(self, cfg: Any, sock: Any, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        self.parser: Any = None
        self._unreader = BoundedUnreader(sock)
        self._received = bytearray()
        self._head_bytes = 0
        self._body: SizedBody | ChunkedBody = SizedBody(0, 0)
        self.await_headers()

    def await_headers(self) -> None:
        """Start the deadline of the next request's headers."""
        self.timeout = monotonic() + HEADER_SECONDS

    def add(self, data: bytes) -> None:
        """Buffer received bytes, without empty lines before a request (RFC 9112, 2.2)."""
        if not self._received:
            data = data.lstrip(b"\r\n")
        self._received += data

    def await_body(self) -> None:
        """Start the deadline of the body, once the headers are complete.

        Sends 100 Continue to a client that expects it.
        """
        self.received_at = monotonic()
        self._head_bytes = self._received.index(b"\r\n\r\n") + 4
        head = bytes(self._received[: self._head_bytes])
        self._body = body_of(head)
        if self.is_whole or (continued := without_expectation(head)) == head:
            return
        self._received[: self._head_bytes] = continued
        self._head_bytes = len(continued)
        self._body = body_of(continued)
        # The next read notices a lost connection.
        with suppress(OSError):
            self.sock.send(CONTINUE)

    def extend(self) -> None:
        """Extend the deadline of the body after receiving more of it."""
        self.timeout = body_deadline(self.received_at, len(self._received) - self._head_bytes)

    @property
    def size(self) -> int:
        """Number of buffered bytes."""
        return len(self._received)

    @property
    def is_whole(self) -> bool:
        """Whether all awaited bytes of the next request were received, after `await_body`."""
        return self._body.is_whole(self._received)

    @property
    def begun(self) -> bool:
        """Whether any byte of the next request was received."""
        return bool(self._received)

    @property
    def complete(self) -> bool:
        """Whether all headers of the next request were received."""
        return b"\r\n\r\n" in self._received

    @property
    def is_ping(self) -> bool:
        """Whether the next request is a health check."""
        return self._received.startswith((b"GET /ping ", b"GET /ping?"))

    @property
    def problem(self) -> "tuple[int, str] | None":
        """Status and message for bytes that cannot become a request."""
        if self._received and not self._received[:1].isalpha():
            found = bytes(self._received[:8]).hex(" ")
            return 400, f"HTTP request: found bytes starting {found}, expected HTTP/1.1"
        if len(self._received) > MAX_HEADER_BYTES and not self.complete:
            return 431, f"HTTP headers: found more than {MAX_HEADER_BYTES:,} bytes, expected fewer"
        return None

    def hand_over(self) -> None:
        """Pass the buffered bytes to the parser, which then need not wait for headers."""
        if self.parser is None:
            self.parser = get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = self._unreader
        received, self._received = memoryview(self._received), bytearray()
        self._unreader.begin(self.received_at, received[self._head_bytes :])
        self._unreader.unread(bytes(received[: self._head_bytes]))
        self.initialized = self.data_ready = True

    def take_back(self) -> None:
        """After a response: buffer what the client has sent of its next request."""
        self.add(self._unreader.take_buffered())


def guard(body: Any, on_error: Callable[[], None]) -> None:
    """Call `on_error` when a body's reader fails, after which the connection cannot be reused.

    Also bounds the lines of chunk sizes and trailers, which gunicorn does not.
    """
    reader = body.reader
    read = reader.read

    def guarded(size: int) -> bytes:
        try:
            data: bytes = read(size)
        except BaseException:
            on_error()
            raise
        return data

    reader.read = guarded
    if isinstance(reader, ChunkedReader):
        get_data = reader.get_data

        def bounded(unreader: Any, buffer: Any) -> None:
            if buffer.tell() > MAX_CHUNK_LINE:
                raise errors.InvalidChunkSize(buffer.getvalue()[:20])
            get_data(unreader, buffer)

        reader.get_data = bounded


def is_read(body: Any) -> bool:
    """Whether a body was read to its end."""
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length == 0)
    return isinstance(reader, ChunkedReader) and reader.parser is None


def refusal(error: Exception) -> tuple[int, str]:
    """Status and message for a request that gunicorn could not parse."""
    status = {
        errors.ExpectationFailed: 417,
        errors.LimitRequestLine: 414,
        errors.LimitRequestHeaders: 431,
    }.get(type(error), 400)
    return status, f"HTTP request: {one_line(str(error))}, expected HTTP/1.1 (RFC 9112)"


def error_response(status: int, message: str) -> bytes:
    """A complete HTTP response with a JSON error, which closes the connection."""
    body = json.dumps({"error": message}).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
