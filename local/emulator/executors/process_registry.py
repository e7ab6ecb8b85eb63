"""A registry of a home's processes, so that a new server finds those of a killed one.

Process groups and sessions are not enough to find a job's processes, because torchrun starts each
worker in its own session. Instead, an environment variable marks them, which all children inherit.
The first process is also registered in a file, with its start time in case its pid is reused.
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
"""The environment variable; its value is `<home's id>/<name>`."""


@dataclass(frozen=True)
class RegisteredProcess:
    """A registered process: its container's name, its pid and its start (Unix time)."""

    name: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process; None if it has ended."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if process.create_time() == self.started:
                return process
        return None


class ProcessRegistry:
    """The registry: one file per process that was started and not yet removed."""

    def __init__(self, home: Home) -> None:
        self._id = home.id
        self._folder = home.processes
        self._folder.mkdir(parents=True, exist_ok=True)

    def mark(self, name: str) -> dict[str, str]:
        """The environment variable that all processes of a container inherit."""
        return {MARK: f"{self._id}/{name}"}

    def add(self, name: str, pid: int) -> None:
        """Register a process that was just started."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:
            started = 0.0  # it has already ended; no process has this start time
        path = self._path(name)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"name": name, "pid": pid, "started": started}))
        fresh.replace(path)

    def remove(self, name: str) -> None:
        """Unregister a process, if it is registered."""
        self._path(name).unlink(missing_ok=True)

    def entries(self) -> list[RegisteredProcess]:
        """All registered processes, by name; one whose file is truncated has pid 0."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(RegisteredProcess(**json.loads(path.read_text())))
            except (ValueError, TypeError):
                found.append(RegisteredProcess(path.stem, 0, 0.0))
        return found

    def kill(self, name: str | None = None, first: psutil.Process | None = None) -> None:
        """Kill all processes of a container (None: of all containers), and `first` with children.

        Repeat until none is left, as a process may start another one meanwhile.
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
        for pid in psutil.pids():  # process_iter caches, and a pid may be reused
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                value = process.environ().get(MARK, "")
                ours = value.startswith(mark) if name is None else value == mark
                if ours and pid != os.getpid():
                    yield process

    def _path(self, name: str) -> Path:
        return self._folder / f"{file_name(self._folder, name)}.json"
