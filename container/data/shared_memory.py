"""Whether the shared memory that worker processes hand batches over in is large enough."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

_MEGABYTE = 1 << 20


def affordable_workers(
    wanted: int,
    prefetch: int,
    batch_bytes: int,
    *,
    report: Callable[[str], object] = print,
    shared_memory: Path = Path("/dev/shm"),  # noqa: S108
) -> int:
    """`wanted`, or as many workers as have room, with one line to `report` when that is fewer.

    A worker keeps `prefetch` finished batches of `batch_bytes` and fills another. Half of what
    is free is counted on, as the validation loader's workers live at the same time. Without
    that room a worker dies of a bus error; plain `docker run` gives a container only 64 MB.
    """
    if wanted < 1:
        return 0
    free = _free_bytes(shared_memory)
    if free is None:
        return wanted
    per_worker = (prefetch + 1) * batch_bytes
    workers = min(wanted, free // 2 // per_worker)
    if workers < wanted:
        needed = 2 * wanted * per_worker
        report(
            f"{shared_memory} has {free // _MEGABYTE} MB free, too little for {wanted} "
            f"data-loading workers: using {workers}; for all of them start the container with "
            f"--shm-size={-(-needed // _MEGABYTE)}m"
        )
    return workers


def _free_bytes(shared_memory: Path) -> int | None:
    """None where the system shares memory some other way."""
    try:
        room = os.statvfs(shared_memory)
    except FileNotFoundError:
        return 0 if sys.platform == "linux" else None
    return room.f_bavail * room.f_frsize
