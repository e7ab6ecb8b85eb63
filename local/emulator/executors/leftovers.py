"""The processes of a home, found again whoever started them: also after the server was killed.

A group or session is not enough to find what a job started: torchrun gives each worker a session
of its own. All inherit the environment, so a variable that nobody else sets marks them; the one
that was started first is also on file, with its start time, so that a process that has its number
by now is never taken for it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.emulator.home import Home

MARK = "BERTH_PROCESS"
"""The variable: `<home's id>/<name>`."""


def home_id(home: Home) -> str:
    """Twelve hexadecimal digits that tell this home's containers from another's."""
    return hashlib.sha256(str(home.path).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Leftover:
    """A process on file: its container's name, its number and when it started (Unix seconds)."""

    name: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process, if it is still there."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if process.create_time() == self.started:
                return process
        return None


class Leftovers:
    """A home's processes: a small file for each that was started and not yet removed."""

    def __init__(self, home: Home) -> None:
        self._id = home_id(home)
        self._folder = home.path / "processes"
        self._folder.mkdir(parents=True, exist_ok=True)

    def mark(self, name: str) -> dict[str, str]:
        """The variable that all processes of a container carry."""
        return {MARK: f"{self._id}/{name}"}

    def keep(self, name: str, pid: int) -> None:
        """Put a process that was just started on file."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:
            started = 0.0  # it ended already: no process started then
        path = self._path(name)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"name": name, "pid": pid, "started": started}))
        fresh.replace(path)

    def forget(self, name: str) -> None:
        """Its file is not needed any more."""
        self._path(name).unlink(missing_ok=True)

    def every(self) -> list[Leftover]:
        """All that are on file, by name. A file cut short by a crash names its process only."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(Leftover(**json.loads(path.read_text())))
            except (ValueError, TypeError):
                found.append(Leftover(path.stem, 0, 0.0))
        return found

    def kill(self, name: str | None = None, first: psutil.Process | None = None) -> None:
        """SIGKILL everything a container started (None: every container's), and `first`'s children.

        Comes back when none of them is left that could start another.
        """
        killed: set[psutil.Process] = set()
        while fresh := set(self._living(name, first)) - killed:
            for process in fresh:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            killed |= fresh

    def _living(self, name: str | None, first: psutil.Process | None) -> Iterator[psutil.Process]:
        if first is not None:
            with contextlib.suppress(psutil.Error):
                yield from [first, *first.children(recursive=True)]
        mark = f"{self._id}/{name or ''}"
        for pid in psutil.pids():  # process_iter remembers who had a number before
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                value = process.environ().get(MARK, "")
                ours = value.startswith(mark) if name is None else value == mark
                if ours and pid != os.getpid():
                    yield process

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"
