"""CloudWatch's log events as files: a folder a group, and in it a file of JSON lines a stream."""

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
"""Characters a file's name may have before it is replaced by its digest; file systems allow 255."""
CACHED_STREAMS = 32
"""Streams whose events stay in memory after they were read: those that people follow."""


class Event(NamedTuple):
    """One line of a log: its time and when it came, UTC milliseconds; its place in the stream."""

    timestamp: int
    ingestion: int
    message: str
    number: int


@dataclass
class EventFile:
    """A stream's file: one line that names the stream, then one a event.

    Attributes:
        path: the file.
        stream: the stream's name.
        created: when it was made, UTC milliseconds.
    """

    path: Path
    stream: str
    created: int
    _events: list[Event] = field(default_factory=list)
    _offset: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def create(cls, folder: Path, stream: str, created: int) -> "EventFile":
        """Make the file of a new stream."""
        path = folder / f"{file_name(folder, quoted(stream))}.jsonl"
        path.write_text(_line({"stream": stream, "created": created}), encoding="utf-8")
        return cls(path, stream, created)

    @classmethod
    def find(cls, path: Path) -> "EventFile | None":
        """The stream of an existing file; None when its first line was never finished."""
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
        """Every event, in the order they came. Only what is new since the last call is read."""
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
        """Bytes on the disk; 0 when it was deleted just now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def forget(self) -> None:
        """Drop what is in memory."""
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
    """A group's or a stream's name with what a file's may hold."""
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
    except ValueError:  # two writes of a full disk in one line
        return None
