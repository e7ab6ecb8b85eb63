"""How many bytes the pictures being decoded in a process may take together.

    with BUDGET.hold(bytes_it_takes):
        ...                     # decode, shrink, and drop the full-size pixels

What is large waits for its turn here and gives its memory back to the system afterwards; glibc
would keep it for the next.
"""

import ctypes
import fcntl
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

_GIGABYTE = 1 << 30

LARGE = 32 << 20
"""Bytes from which a picture counts as large: a photograph of about four megapixels."""

_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Budget:
    """`total` bytes, lent out in the order asked for.

    A turn file makes processes that share it decode large pictures one at a time; the system
    takes a turn back from a process that dies.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._turn: Path | None = None
        self._begin()
        # A forked process has none of the threads that hold anything here.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._free = self.total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take_turns(self, turn: Path | None) -> None:
        """From now on hold `turn`, a file that exists, while a large picture is decoded."""
        self._turn = turn

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free and keep them. Raises ValueError above `total`."""
        if size > self.total:
            raise ValueError(f"{size:,} bytes are more than {self.total:,}")
        self._acquire(size)
        try:
            if self._turn is None or size < LARGE:
                yield
            else:
                with self._turn.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    yield
        finally:
            if size >= LARGE:
                _give_back()
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


class Turn:
    """A file for `Budget.take_turns`, which goes with this object in the process that made it."""

    def __init__(self) -> None:
        handle, path = mkstemp(prefix="berth-turn-")
        os.close(handle)
        self.path = Path(path)
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, maker: int) -> None:
    if os.getpid() == maker:
        path.unlink(missing_ok=True)


def _total() -> int:
    """A gigabyte, or half of what the container or the machine has if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUPS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # No such cgroup, or "max".
    return min(_GIGABYTE, min(limits) // 2)


def _give_back() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


BUDGET = Budget(_total())
"""The one of this process."""
