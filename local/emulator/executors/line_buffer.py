"""Splitting of a container's output into log lines."""

import codecs
import io
import logging
from collections.abc import Callable

LONGEST = 65_500
"""Most characters per line: in UTF-8 they fit into a CloudWatch event of 262,144 bytes, 26 of which
are overhead."""

_log = logging.getLogger(__name__)


class LineBuffer:
    """Splits a stream into lines and calls `on_line` with each; not thread-safe.

    Lines end like in Python's universal newlines, so that each update of a progress bar with a
    carriage return is a line and no metric in it is lost. Invalid UTF-8 becomes U+FFFD. A line that
    is too long for a log event is split. If `on_line` fails (because the disk is full), that is
    logged once and the output is still read, as the container would hang otherwise.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._parts: list[str] = []
        self._length = 0
        self._failed = False

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the stream."""
        self._split(self._decoder.decode(data))

    def close(self) -> None:
        """End the stream, and deliver an incomplete last line."""
        self._split(self._decoder.decode(b"", final=True))
        if self._length:
            self._end_line()

    def emit(self, line: str) -> None:
        """Deliver a complete line, such as one of the executor's own."""
        try:
            self._on_line(line)
        except Exception:
            if not self._failed:
                _log.exception(
                    "cannot store a line of a container's output; others may be lost too"
                )
            self._failed = True

    def _split(self, text: str) -> None:
        *ended, rest = text.split("\n")
        for line in ended:
            self._add(line)
            self._end_line()
        self._add(rest)

    def _add(self, text: str) -> None:
        while self._length + len(text) > LONGEST:
            room = LONGEST - self._length
            self._parts.append(text[:room])
            self._end_line()
            text = text[room:]
        self._parts.append(text)
        self._length += len(text)

    def _end_line(self) -> None:
        line = "".join(self._parts)
        self._parts, self._length = [], 0
        self.emit(line)
