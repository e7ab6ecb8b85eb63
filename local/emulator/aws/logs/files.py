"""Files of log events: a folder per log group, with a JSON Lines file per log stream."""

import collections
import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from local.emulator.file_names import file_name

LONGEST_NAME = 200
"""Most characters of a file name; a longer one is cut and gets a digest. File systems allow 255."""
CACHED_STREAMS = 32
"""Most streams whose events stay in memory after they were read, for clients that follow them."""


class Event(NamedTuple):
    """A log event: timestamp and ingestion time (UTC ms), message, index in the stream."""

    timestamp: int
    ingestion: int
    message: str
    number: int


@dataclass
class EventFile:
    """A log stream's file: a line with the stream's name, then a line per event.

    Attributes:
        path: the file.
        stream: the stream's name.
        created: when it was created, UTC milliseconds.
    """

    path: Path
    stream: str
    created: int
    _events: list[Event] = field(default_factory=list)
    _offset: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def create(cls, folder: Path, stream: str, created: int) -> "EventFile":
        """Create the file of a new stream."""
        path = folder / f"{file_name(folder, quoted(stream))}.jsonl"
        path.write_text(_line({"stream": stream, "created": created}), encoding="utf-8")
        return cls(path, stream, created)

    @classmethod
    def find(cls, path: Path) -> "EventFile | None":
        """Open an existing file; None if its first line is incomplete."""
        with path.open("rb") as file:
            first = file.readline()
        try:
            head = json.loads(first)
            return cls(path, head["stream"], head["created"])
        except (ValueError, KeyError):
            return None

    def append(self, events: list[tuple[int, int, str]]) -> None:
        """Write (timestamp, ingestion, message) events.

        Raises:
            OSError: the disk is full, or the stream was deleted.
        """
        lines = "".join(_line(event) for event in events).encode()
        # Without O_CREAT: a deleted stream stays deleted.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, lines) < len(lines):
                os.ftruncate(descriptor, before)
                raise OSError(f"{self.path}: the disk is full")
        finally:
            os.close(descriptor)

    def events(self) -> list[Event]:
        """All events in order of ingestion; only those since the last call are read."""
        with self._lock:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            complete = text[: text.rfind(b"\n") + 1]
            for line in complete.splitlines():
                values = _values(line)
                if isinstance(values, list):
                    timestamp, ingestion, message = values
                    self._events.append(Event(timestamp, ingestion, message, len(self._events)))
            self._offset += len(complete)
            events = list(self._events)
        _keep_recent(self)
        return events

    def size(self) -> int:
        """The file's size in bytes; 0 if it was deleted."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def forget(self) -> None:
        """Remove the events from memory."""
        with self._lock:
            self._events, self._offset = [], 0


_recent: "collections.OrderedDict[Path, EventFile]" = collections.OrderedDict()
_recent_lock = threading.Lock()


def _keep_recent(file: EventFile) -> None:
    with _recent_lock:
        _recent[file.path] = file
        _recent.move_to_end(file.path)
        oldest = _recent.popitem(last=False)[1] if len(_recent) > CACHED_STREAMS else None
    if oldest is not None and oldest is not file:
        oldest.forget()


def quoted(name: str) -> str:
    """Convert the name of a log group or stream to a valid file name."""
    text = quote(name, safe="")
    if len(text) <= LONGEST_NAME:
        return text
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{text[: LONGEST_NAME - 33]}-{digest}"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def _values(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:  # truncated when the disk was full
        return None
