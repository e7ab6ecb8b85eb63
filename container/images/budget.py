"""A limit on the memory of all images that a process decodes at once.

    with BUDGET.hold(size):
        ...                     # decode, resize, and drop the full-size pixels

Large images are decoded one at a time, and their memory is returned to the system afterwards, as
glibc would keep it.
"""

import fcntl
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from container.memory import trim_heap

_GIGABYTE = 1 << 30

LARGE = 32 << 20
"""Bytes from which an image is large: a photograph of about four megapixels."""

_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Budget:
    """A semaphore of `total` bytes, first in, first out.

    A lock file makes processes that share it decode large images one at a time; the system
    releases the lock of a process that dies. `trim` runs after each large image.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.trim = trim_heap
        self._lock_file: Path | None = None
        self._begin()
        # A forked process has none of the threads that hold bytes.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._free = self.total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def use_lock_file(self, path: Path | None) -> None:
        """Lock `path`, a file that exists, while a large image is decoded."""
        self._lock_file = path

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free and hold them. Raises ValueError above `total`."""
        if size > self.total:
            raise ValueError(f"{size:,} bytes are more than {self.total:,}")
        self._acquire(size)
        try:
            if self._lock_file is None or size < LARGE:
                yield
            else:
                with self._lock_file.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    yield
        finally:
            if size >= LARGE:
                self.trim()
            with self._changed:
                self._free += size
                self._changed.notify_all()

    def _acquire(self, size: int) -> None:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= size)
                self._free -= size
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()


class LockFile:
    """A file for `Budget.use_lock_file`; the process that created it deletes it."""

    def __init__(self) -> None:
        handle, path = mkstemp(prefix="berth-lock-")
        os.close(handle)
        self.path = Path(path)
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, creator: int) -> None:
    if os.getpid() == creator:
        path.unlink(missing_ok=True)


def _total() -> int:
    """1 GiB, or half of the memory of the container or machine if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUPS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # No such cgroup, or "max".
    return min(_GIGABYTE, min(limits) // 2)


BUDGET = Budget(_total())
"""This process's budget."""
