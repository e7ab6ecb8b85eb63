"""Log groups and streams on disk: a folder per group, with `group.json` and a file per stream."""

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.emulator.aws.logs.files import Event, EventFile, quoted
from local.emulator.errors import ServiceError
from local.emulator.file_names import file_name

logger = logging.getLogger(__name__)

GROUP_FILE = "group.json"


class GroupNotFound(ServiceError):
    """No log group has this name."""

    def __init__(self) -> None:
        super().__init__("ResourceNotFoundException", "The specified log group does not exist.")


class StreamNotFound(ServiceError):
    """The group has no log stream of this name."""

    def __init__(self) -> None:
        super().__init__("ResourceNotFoundException", "The specified log stream does not exist.")


@dataclass
class Group:
    """One log group.

    Attributes:
        folder: its folder.
        name: its name.
        created: when it was created, UTC milliseconds.
        settings: other members of `group.json`: `retentionInDays`, `tags`, `metricFilters`.
        streams: its log streams by name.
    """

    folder: Path
    name: str
    created: int
    settings: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, EventFile] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Group | None":
        """Load a `group.json`; None if it is incomplete because the server was killed."""
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            group = cls(path.parent, settings.pop("group"), settings.pop("created"), settings)
        except (ValueError, KeyError):
            return None
        for file in sorted(path.parent.glob("*.jsonl")):
            if found := EventFile.find(file):
                group.streams[found.stream] = found
        return group

    def save(self) -> None:
        """Write `group.json` atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"group": self.name, "created": self.created, **self.settings}
        draft = self.folder / f"{GROUP_FILE}.new"
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(self.folder / GROUP_FILE)

    def stream(self, name: str) -> EventFile:
        """The log stream of this name.

        Raises:
            StreamNotFound: there is none.
        """
        try:
            return self.streams[name]
        except KeyError:
            raise StreamNotFound from None


class LogStore:
    """The log groups of every region, in `<folder>/<region>`; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._regions: dict[str, dict[str, Group]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(f"*/*/{GROUP_FILE}")):
            if group := Group.load(path):
                self._regions.setdefault(path.parts[-3], {})[group.name] = group

    def groups(self, region: str) -> list[Group]:
        """All log groups of a region, by name."""
        with self._lock:
            return sorted(self._regions.get(region, {}).values(), key=lambda group: group.name)

    def group(self, region: str, name: str) -> Group:
        """The log group of this name.

        Raises:
            GroupNotFound: there is none.
        """
        with self._lock:
            try:
                return self._regions.get(region, {})[name]
            except KeyError:
                raise GroupNotFound from None

    def create_group(self, region: str, name: str, settings: dict[str, Any]) -> None:
        """Create a log group.

        Raises:
            ServiceError: it exists.
        """
        with self._lock:
            groups = self._regions.setdefault(region, {})
            if name in groups:
                raise _exists("log group")
            folder = self._folder / region / file_name(self._folder, quoted(name))
            group = Group(folder, name, now(), settings)
            group.save()
            groups[name] = group

    def delete_group(self, region: str, name: str) -> None:
        """Delete a log group and its streams.

        Raises:
            GroupNotFound: there is none.
        """
        with self._lock:
            group = self.group(region, name)
            del self._regions[region][name]
            # Deleted first: without this file, a partly deleted folder is not a log group.
            (group.folder / GROUP_FILE).unlink(missing_ok=True)
            shutil.rmtree(group.folder, ignore_errors=True)

    def change_settings(self, region: str, name: str, settings: dict[str, Any]) -> None:
        """Replace some of a group's settings; a value of None removes one.

        Raises:
            GroupNotFound: there is none.
        """
        with self._lock:
            group = self.group(region, name)
            changed = group.settings | settings
            group.settings = {key: value for key, value in changed.items() if value is not None}
            group.save()

    def create_stream(self, region: str, group_name: str, name: str) -> EventFile:
        """Create a log stream.

        Raises:
            ServiceError: it exists, or there is no such group.
        """
        with self._lock:
            group = self.group(region, group_name)
            if name in group.streams:
                raise _exists("log stream")
            group.streams[name] = EventFile.create(group.folder, name, now())
            return group.streams[name]

    def ensure_stream(self, region: str, group_name: str, name: str) -> EventFile:
        """Return the log stream; create it and its log group if missing."""
        with self._lock:
            if group_name not in self._regions.get(region, {}):
                self.create_group(region, group_name, {})
            streams = self.group(region, group_name).streams
            return streams.get(name) or self.create_stream(region, group_name, name)

    def delete_stream(self, region: str, group_name: str, name: str) -> None:
        """Delete a log stream.

        Raises:
            ServiceError: there is no such group or stream.
        """
        with self._lock:
            group = self.group(region, group_name)
            group.stream(name).path.unlink(missing_ok=True)
            del group.streams[name]

    def tail(self, region: str, group_name: str, stream_prefix: str, lines: int) -> list[str]:
        """The last lines of the log group's streams with this prefix, oldest first."""
        with self._lock:
            group = self._regions.get(region, {}).get(group_name)
            streams = [] if group is None else list(group.streams.items())
        if lines <= 0:
            return []
        events = [
            event
            for name, stream in streams
            if name.startswith(stream_prefix)
            for event in stream.events()[-lines:]
        ]
        events.sort(key=lambda event: event.timestamp)
        return [event.message for event in events[-lines:]]


class StreamWriter:
    """Appends a job's lines to a log stream."""

    def __init__(
        self, file: EventFile, on_events: Callable[[Sequence[tuple[int, str]]], None]
    ) -> None:
        self._file, self._on_events = file, on_events
        self._failed = False

    def write(self, line: str) -> None:
        """Append a line immediately; a full disk loses the line but does not stop the job."""
        written = now()
        try:
            self._file.append([(written, written, line)])
        except OSError as error:
            if not self._failed:
                logger.warning("log stream %s loses lines: %s", self._file.stream, error)
            self._failed = True
        self._on_events([(written, line)])

    def close(self) -> None:
        """Do nothing: every line is written immediately."""


def event_ids(arn: str, events: list[Event]) -> Iterator[str]:
    """The `eventId` of each event in the stream with this ARN, unique among all streams."""
    first = int.from_bytes(hashlib.sha256(arn.encode()).digest()[:16], "big") * 10**9
    return (f"{first + event.number:056d}" for event in events)


def now() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


def _exists(what: str) -> ServiceError:
    return ServiceError("ResourceAlreadyExistsException", f"The specified {what} already exists")
