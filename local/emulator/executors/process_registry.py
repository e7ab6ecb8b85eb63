"""The processes of a home, on file so that a later server finds them after a kill.

A group or session is not enough to find what a job started: torchrun gives each worker a session
of its own. All inherit the environment, so a variable that nobody else sets marks them; the one
that was started first is also on file, with its start time, so that a process that has its number
by now is never taken for it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.emulator.file_names import file_name
from local.emulator.home import Home

MARK = "BERTH_PROCESS"
"""The variable: `<home's id>/<name>`."""


@dataclass(frozen=True)
class RegisteredProcess:
    """A process on file: its container's name, its pid and when it started (Unix seconds)."""

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


class ProcessRegistry:
    """A home's processes: a small file for each that was started and not yet removed."""

    def __init__(self, home: Home) -> None:
        self._id = home.id
        self._folder = home.processes
        self._folder.mkdir(parents=True, exist_ok=True)

    def mark(self, name: str) -> dict[str, str]:
        """The environment variable that all processes of a container inherit."""
        return {MARK: f"{self._id}/{name}"}

    def add(self, name: str, pid: int) -> None:
        """Put a process that was just started on file."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:
            started = 0.0  # it ended already: no process started then
        path = self._path(name)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"name": name, "pid": pid, "started": started}))
        fresh.replace(path)

    def remove(self, name: str) -> None:
        """Delete a process's file, if there is one."""
        self._path(name).unlink(missing_ok=True)

    def entries(self) -> list[RegisteredProcess]:
        """All on file, by name. A file that a crash cut short gives the name alone, and pid 0."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(RegisteredProcess(**json.loads(path.read_text())))
            except (ValueError, TypeError):
                found.append(RegisteredProcess(path.stem, 0, 0.0))
        return found

    def kill(self, name: str | None = None, first: psutil.Process | None = None) -> None:
        """SIGKILL everything a container started (None: every container's), and `first`'s children.

        Returns when none of them is left that could start another.
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
        return self._folder / f"{file_name(self._folder, name)}.json"
