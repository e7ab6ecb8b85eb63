"""Detects the end of a request's body while it arrives, from Content-Length or its chunks.

Only for bodies that are buffered; gunicorn's parser validates the request later.
"""

import re

MAX_HELD_BODY = 8 * 1024 * 1024
"""Longest body to receive before a thread takes the request: a photograph from a phone."""

MAX_CHUNK_LINE = 16 * 1024
"""Bytes of a chunk's size with its extensions, and of all trailers."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*(?=\r\n)", re.IGNORECASE)
_LENGTHS = re.compile(rb"\r\ncontent-length[ \t]*:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?=\r\n)", re.IGNORECASE)
_CODINGS = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_CONTINUE = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_EXPECTATIONS = re.compile(rb"\r\nexpect[ \t]*:", re.IGNORECASE)
_HTTP_1_1 = re.compile(rb"[^\r\n]* HTTP/1\.1\r\n")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;|$)")


class SizedBody:
    """A body of `length` bytes after a head of `start` bytes."""

    def __init__(self, start: int, length: int) -> None:
        self._end = start + length

    def is_whole(self, received: bytearray) -> bool:
        """Whether all of it was received."""
        return len(received) >= self._end


class ChunkedBody:
    """A chunked body (RFC 9112, 7.1) after a head of `start` bytes."""

    def __init__(self, start: int) -> None:
        self._start = self._next = self._searched = start
        self._trailers = 0
        self._ended = False

    def is_whole(self, received: bytearray) -> bool:
        """Whether its end was received, or it turned out to be malformed or too long to buffer."""
        while not self._ended and self._advance(received):
            pass
        return self._ended

    def _advance(self, received: bytearray) -> bool:
        """Read the next chunk size or trailer line, if it was received."""
        if len(received) < self._next:
            return False
        end = received.find(b"\r\n", max(self._next, self._searched))
        if end < 0:
            self._searched = len(received) - 1
            self._ended = len(received) - self._next > MAX_CHUNK_LINE
            return False
        line = bytes(received[self._next : end])
        if self._trailers:
            self._next = end + 2
            self._ended = not line or self._next - self._trailers > MAX_CHUNK_LINE
            return True
        size = _SIZE.match(line)
        if size is None or (self._next > self._start and received[self._next - 2] != 13):
            self._ended = True
        elif length := int(size[1], 16):
            self._next = end + 2 + length + 2
            self._ended = self._next - self._start > MAX_HELD_BODY
        else:
            self._trailers = self._next = end + 2
        return True


def body_of(head: bytes) -> SizedBody | ChunkedBody:
    """The body after this head, which lasts from the request line to the empty line.

    A body that is not buffered counts as complete from the start: it exceeds `MAX_HELD_BODY`, or
    its length is unclear from the head.
    """
    lengths, codings = len(_LENGTHS.findall(head)), len(_CODINGS.findall(head))
    expected = len(_EXPECTATIONS.findall(head))
    if expected and not (expected == 1 and _CONTINUE.search(head) and _HTTP_1_1.match(head)):
        return SizedBody(len(head), 0)
    if (lengths, codings) == (0, 1) and _CHUNKED.search(head) and _HTTP_1_1.match(head):
        return ChunkedBody(len(head))
    found = _LENGTH.search(head) if (lengths, codings) == (1, 0) else None
    length = int(found[1]) if found else 0
    return SizedBody(len(head), length if length <= MAX_HELD_BODY else 0)


def without_expectation(head: bytes) -> bytes:
    """Remove `Expect: 100-continue` from a head."""
    return _CONTINUE.sub(b"", head)
