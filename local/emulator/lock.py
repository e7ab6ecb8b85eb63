"""File locks between processes; the kernel releases them when a process ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

SERVER = "server.lock"
"""Held by a running server; the file has its process id."""
SWITCH = "switch.lock"
"""Held by a process while it starts or stops a server."""
POLL_SECONDS = 0.02


class Taken(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(path: Path, timeout: float = 0.0) -> Iterator[None]:
    """Hold the lock while the block runs; waits up to `timeout` seconds for it.

    Raises:
        Taken: another process still holds it.
    """
    deadline = time.monotonic() + timeout
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try(descriptor):
            if time.monotonic() >= deadline:
                raise Taken(str(path))
            time.sleep(POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The id of the process that holds the lock; None if no process does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try(descriptor):
            return None
        text = os.pread(descriptor, 32, 0)
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
