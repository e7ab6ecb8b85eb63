"""A container's output, bytes as they arrive, split into the lines of its log."""

import codecs
import io
import logging
from collections.abc import Callable

LONGEST = 65_500
"""Characters of a line before it is cut: in UTF-8 they fit into CloudWatch's 262,144 bytes an event
(26 of which it counts for itself)."""

_log = logging.getLogger(__name__)


class LineBuffer:
    """Splits one stream into lines and calls `on_line` with each; for one thread at a time.

    Lines end as Python's universal newlines do, so each state of a progress bar that returns the
    carriage is a line, and no metric in it is lost. Bytes that are no UTF-8 become U+FFFD. A line
    too long for a log event is split into several. When `on_line` fails (a full disk), that is
    logged once and the output is still read, because the container would hang otherwise.
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
        """End the stream; what follows the last line end is a line too."""
        self._split(self._decoder.decode(b"", final=True))
        if self._length:
            self._end_line()

    def emit(self, line: str) -> None:
        """Deliver a whole line, such as one of the executor's own."""
        try:
            self._on_line(line)
        except Exception:
            if not self._failed:
                _log.exception("a container's line could not be stored; others may follow it")
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
