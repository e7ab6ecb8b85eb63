"""The memory this process may still allocate, by the machine and its cgroup."""

import ctypes
from pathlib import Path

import psutil

from container.cpus import CGROUP


def available_memory(cgroup: Path = CGROUP) -> int:
    """Bytes of memory available on the machine, or left of the cgroup's limit if less.

    Inactive file pages count as free, as the kernel drops them first.
    """
    free = int(psutil.virtual_memory().available)
    left = _left(cgroup)
    return free if left is None else max(0, min(free, left))


def trim_heap() -> None:
    """Return freed memory to the system, which glibc would keep; nothing with other libraries."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _left(cgroup: Path) -> int | None:
    """Bytes left of cgroup v2's `memory.max` or v1's limit; None without a limit."""
    old = cgroup / "memory"
    for limit, used, stat, inactive in (
        (cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat", "inactive_file"),
        (
            old / "memory.limit_in_bytes",
            old / "memory.usage_in_bytes",
            old / "memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            most, now = int(limit.read_text()), int(used.read_text())
            kinds = dict(line.split() for line in stat.read_text().splitlines())
        except (OSError, ValueError):
            continue  # No such cgroup, or "max".
        return most - now + int(kinds.get(inactive, 0))
    return None
