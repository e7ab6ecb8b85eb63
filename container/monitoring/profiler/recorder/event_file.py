"""Writes framework events in SageMaker's format: Chrome traces, a file per minute and process.

A finished file is `framework/pevents/<YYYYMMDDHH>/<end µs>_<pid>-<host>_pythontimeline.json`; the
one being written is `framework/<pid>-<host>_pythontimeline.json.tmp`, which SageMaker does not
upload. Its array is closed after every write, so that it can be read at any moment. A process that
is killed leaves that file behind; `recover` finishes it.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from container.monitoring.profiler.settings import ROTATE_BYTES, ROTATE_SECONDS

SUFFIX = "_pythontimeline.json"
JUMP_NS = 1_000_000
"""A wall clock that differs by more from the steady one was set; by less, it was read late."""

_START = "start_time_since_epoch_in_micros"
_TAIL = b"\n]"


class TimelineEvent(NamedTuple):
    """An event with a duration.

    Attributes:
        process: the event's phase in smdebug.
        name: the event's name.
        mode: train, eval or other.
        step: number of the step it belongs to.
        start, end: nanoseconds of the steady clock.
    """

    process: str
    name: str
    mode: str
    step: int
    start: int
    end: int


class TimelineFile:
    """One process's events, in one file after another.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
        rank: written beside every event.
        rotate_bytes, rotate_seconds: when a file ends and the next begins.
        clock, wall: nanoseconds that never jump, and those since 1970.
    """

    def __init__(
        self,
        root: Path,
        host: str,
        *,
        rank: int,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_seconds: float = ROTATE_SECONDS,
        clock: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root, self._rank = root, rank
        self._rotate_bytes, self._rotate_ns = rotate_bytes, int(rotate_seconds * 1e9)
        self._clock, self._wall = clock, wall
        self._node = f"{os.getpid()}-{host.replace('_', '-')}"
        self._offset = self._measure_offset()
        self._base = (clock() + self._offset) // 1000
        self._file: int | None = None
        self._size = self._opened = self._last = 0
        self._numbers: dict[str, int] = {}
        self._declared: set[str] = set()
        self._beginnings: dict[tuple[str, str], str] = {}

    @property
    def path(self) -> Path:
        """The file being written."""
        return self._root / "framework" / f"{self._node}{SUFFIX}.tmp"

    def write(self, events: Iterable[TimelineEvent]) -> None:
        """Append events, in one write.

        Raises:
            OSError: the disk is full or the folder cannot be written; what is there stays readable.
        """
        self.rotate()
        lines = []
        for event in events:
            if self._file is None:
                lines.append(self._open())
            if event.process not in self._declared:
                lines += self._declare(event.process)
            lines.append(self._line(event))
        if lines:
            self._append(",\n".join(lines).encode())

    def rotate(self) -> None:
        """End the file if it is old or large enough, or belongs to an hour that is over."""
        if self._file is None:
            return
        now = self._clock()
        hours = [_hour(self._micros(moment)) for moment in (self._opened, now)]
        if (
            self._size > self._rotate_bytes
            or now - self._opened > self._rotate_ns
            or hours[0] != hours[1]
        ):
            self.close()

    def close(self) -> None:
        """Rename the file to its final name; the next event begins another. Idempotent."""
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        _finish(self._root, self.path, self._node, self._last)

    def _open(self) -> str:
        """Begin a file; its first line, after which times are counted."""
        offset = self._measure_offset()
        if abs(offset - self._offset) > JUMP_NS:
            self._offset = offset
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._size, self._last, self._opened = 0, 0, self._clock()
        self._declared = set()
        return _meta("process_name", 0, {_START: self._base})

    def _measure_offset(self) -> int:
        """The wall clock less the steady one: of three tries the one that took the least time."""
        tries = []
        for _ in range(3):
            before, wall, after = self._clock(), self._wall(), self._clock()
            tries.append((after - before, wall - (before + after) // 2))
        return min(tries)[1]

    def _declare(self, process: str) -> list[str]:
        self._declared.add(process)
        number = self._numbers.setdefault(process, len(self._numbers) + 1)
        return [
            _meta("process_name", number, {"name": process}),
            _meta("process_sort_index", number, {"sort_index": number}),
        ]

    def _line(self, event: TimelineEvent) -> str:
        start, end = self._micros(event.start), self._micros(event.end)
        self._last = max(self._last, end)
        return (
            f'{self._beginning(event.process, event.name)}"ts":{start - self._base},'
            f'"dur":{end - start},"args":{{"step_num":{event.step},"mode":"{event.mode}",'
            f'"rank":{self._rank}}}}}'
        )

    def _beginning(self, process: str, name: str) -> str:
        text = self._beginnings.get((process, name))
        if text is None:
            number = self._numbers[process]
            text = self._beginnings[process, name] = (
                f'{{"name":{json.dumps(name)},"pid":{number},"ph":"X",'
            )
        return text

    def _micros(self, moment: int) -> int:
        """Microseconds since 1970; rounded down, so that what touches still touches."""
        return (moment + self._offset) // 1000

    def _append(self, text: bytes) -> None:
        if self._file is None:
            return
        start = b",\n" if self._size else b"[\n"
        data = start + text + _TAIL
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._size + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
                os.pwrite(self._file, _TAIL if self._size else b"[" + _TAIL, self._size)
            raise
        self._size += len(data) - len(_TAIL)


def recover(root: Path, host: str) -> None:
    """Finish the files of this host's dead processes, without partially written events.

    Raises:
        OSError: the folder cannot be written.
    """
    for path in sorted((root / "framework").glob(f"*-{host.replace('_', '-')}{SUFFIX}.tmp")):
        node = path.name.removesuffix(f"{SUFFIX}.tmp")
        process = node.partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            mine = path.with_name(f".{os.getpid()}-{path.name}")
            with contextlib.suppress(FileNotFoundError):  # another rank was first
                path.rename(mine)
                _repair(root, mine, node)


def _repair(root: Path, path: Path, node: str) -> None:
    complete = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            complete.append(json.loads(line.removesuffix(b",")))
    entries = [entry for entry in complete if isinstance(entry, dict)]
    base = next((e["args"][_START] for e in entries if _START in e.get("args", {})), 0)
    ends = [base + e["ts"] + e["dur"] for e in entries if e.get("ph") == "X"]
    if not ends:
        path.unlink()
        return
    text = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    path.write_bytes(b"[\n" + text.encode() + _TAIL)
    _finish(root, path, node, max(ends))


def _finish(root: Path, path: Path, node: str, last: int) -> None:
    """Move a file to where its last event's end (µs since 1970) puts it."""
    while True:
        final = root / "framework" / "pevents" / _hour(last) / f"{last}_{node}{SUFFIX}"
        if not final.exists():
            break
        last += 1
    final.parent.mkdir(parents=True, exist_ok=True)
    path.rename(final)


def _alive(process: int) -> bool:
    """Whether another process has this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _hour(micros: int) -> str:
    return time.strftime("%Y%m%d%H", time.gmtime(micros / 1e6))


def _meta(name: str, process: int, args: dict[str, object]) -> str:
    return json.dumps({"name": name, "ph": "M", "pid": process, "args": args})
