"""Helpers that wait for containers run by an executor."""

import fcntl
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from local.emulator.executors import Container, Executor

TIMEOUT = 20
"""Seconds that anything here may take; it is far less on an idle machine."""
LOCK = """
import subprocess, sys
code = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'w'); "
    "fcntl.flock(file, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"
)
child = subprocess.Popen(
    [sys.executable, "-c", code, BASE + "/lock"], stdout=subprocess.PIPE, start_new_session=True
)
print(child.stdout.readline().decode(), end="")
"""
"""A script that starts a child, in a session of its own, that holds a lock in `BASE` as long as it
lives, and prints `locked`."""


def locking_script(executor: Executor, base: Path) -> str:
    """Return the script `LOCK` with the folder's path inside the container."""
    return f"BASE = {'/opt/ml' if executor.name == 'docker' else str(base)!r}\n{LOCK}"


def until(condition: Callable[[], object]) -> None:
    """Poll until a condition without an event is true."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def status_of(url: str) -> int:
    """Wait until a server listens and return the status of its response."""
    found: list[int] = []

    def responds() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                found.append(response.status)
        except OSError:
            return False
        return True

    until(responds)
    return found[0]


def is_locked(base: Path) -> bool:
    """Return whether a process holds the lock of `LOCK`; the kernel frees it when that ends."""
    with (base / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@dataclass
class StartedContainer:
    """A container and the lines it has printed so far."""

    base: Path
    lines: list[str] = field(default_factory=list)
    container: Container = field(init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add_line(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def until_prints(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self.lines, TIMEOUT), self.lines

    def first_line(self) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: self.lines, TIMEOUT)
        return self.lines[0]

    def output(self) -> list[str]:
        """Wait for its end and return all its lines."""
        assert self.container.wait(60) is not None
        return self.lines


class Start(Protocol):
    """Run a Python script in a container that is removed after the test."""

    def __call__(
        self, executor: Executor, script: str, name: str = "job", **spec: Any
    ) -> StartedContainer:
        """Start it with `spec`, members of the ContainerSpec."""
