"""What the worker knows of a client's connection, and how long it waits for one.

Deadlines are those of Apache's mod_reqtimeout: 20 s for the headers; 20 s for a body, and a second
more for every 500 bytes of it that came.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Any

from gunicorn.http import errors, get_parser
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn

HEADERS_WITHIN = 20.0
BODY_WITHIN = 20.0
LEAST_RATE = 500.0
"""Bytes of a body a second."""

LONGEST_BODY = 55.0
"""Seconds for any body: SageMaker ends an invocation after 60."""

SEND_WITHIN = 20.0
"""Seconds for a client to take an answer."""

UNREAD_WITHIN = 0.01
"""Seconds for the rest of a body that nobody wanted: it is there, or the connection ends."""

MAX_HEAD = 64 * 1024
MAX_LINE = 16 * 1024
"""Bytes of a chunk's size with its extensions, and of all trailers."""


class BoundedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads from a socket until a deadline that moves as bytes come. Raises TimeoutError."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.begin()

    def begin(self) -> None:
        """A request's headers are there, its body is awaited."""
        self._started = monotonic()
        self._arrived = 0
        self._end = self._started + LONGEST_BODY

    def end_within(self, seconds: float) -> None:
        """Wait no longer than this, whatever comes."""
        self._end = monotonic() + seconds

    def chunk(self) -> bytes:
        """Some bytes, none at the end."""
        promised = self._started + BODY_WITHIN + self._arrived / LEAST_RATE
        left = min(promised, self._end) - monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        try:
            data: bytes = self.sock.recv(self.mxchunk)
        finally:
            self.sock.settimeout(SEND_WITHIN)
        self._arrived += len(data)
        return data


class Connection(TConn):  # type: ignore[misc]
    """A connection whose next request's headers are gathered before a thread takes it."""

    def __init__(self, cfg: Any, sock: Any, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        self.parser: Any = None
        self._unreader = BoundedUnreader(sock)
        self._received = bytearray()
        self.await_head()

    def await_head(self) -> None:
        """From now on the next request has to come."""
        self.timeout = monotonic() + HEADERS_WITHIN

    def add(self, data: bytes) -> None:
        """What came. Lines that are empty before a request are none of it (RFC 9112, 2.2)."""
        if not self._received:
            data = data.lstrip(b"\r\n")
        self._received += data

    @property
    def begun(self) -> bool:
        """Whether any of the next request is there."""
        return bool(self._received)

    @property
    def complete(self) -> bool:
        """Whether all headers of the next request are there."""
        return b"\r\n\r\n" in self._received

    @property
    def is_ping(self) -> bool:
        """Whether the next request is a health check."""
        return self._received.startswith((b"GET /ping ", b"GET /ping?"))

    @property
    def problem(self) -> "tuple[int, str] | None":
        """Status and line for what can never become a request."""
        if self._received and not self._received[:1].isalpha():
            found = bytes(self._received[:8]).hex(" ")
            return 400, f"HTTP request: found bytes starting {found}, expected HTTP/1.1"
        if len(self._received) > MAX_HEAD and not self.complete:
            return 431, f"HTTP headers: found more than {MAX_HEAD:,} bytes, expected fewer"
        return None

    def hand_over(self) -> None:
        """Give the gathered bytes to the parser: a thread may go on from here without waiting."""
        if self.parser is None:
            self.parser = get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = self._unreader
        self._unreader.begin()
        self._unreader.unread(bytes(self._received))
        self._received.clear()
        self.initialized = self.data_ready = True

    def take_back(self) -> None:
        """After an answer: what the client sent ahead belongs to its next request."""
        self.add(self._unreader.take_buffered())


def guard(body: Any, broken: Callable[[], None]) -> None:
    """Make a body's reader say so when it fails, as nothing after that can be told apart.

    Chunk sizes and trailers come line by line, and gunicorn lets a line grow for ever: not here.
    """
    reader = body.reader
    read = reader.read

    def guarded(size: int) -> bytes:
        try:
            data: bytes = read(size)
        except BaseException:
            broken()
            raise
        return data

    reader.read = guarded
    if isinstance(reader, ChunkedReader):
        get_data = reader.get_data

        def bounded(unreader: Any, buffer: Any) -> None:
            if buffer.tell() > MAX_LINE:
                raise errors.InvalidChunkSize(buffer.getvalue()[:20])
            get_data(unreader, buffer)

        reader.get_data = bounded


def is_read(body: Any) -> bool:
    """Whether the whole of a body was taken from the socket."""
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length == 0)
    return isinstance(reader, ChunkedReader) and reader.parser is None


def refusal(error: Exception) -> tuple[int, str]:
    """Status and line for a request that gunicorn could not parse."""
    status = {
        errors.ExpectationFailed: 417,
        errors.LimitRequestLine: 414,
        errors.LimitRequestHeaders: 431,
    }.get(type(error), 400)
    found = "".join(c if c.isprintable() else " " for c in str(error)[:200])
    return status, f"HTTP request: {found}, expected HTTP/1.1 as RFC 9112 has it"


def answer(status: int, message: str) -> bytes:
    """A whole response that says why there is no other, and ends the connection."""
    body = json.dumps({"error": message}).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
