"""How many processor cores this process may use: what the cgroup and the affinity mask allow.

`os.cpu_count()` and torch's default count the machine's cores; in a container with half a core
that oversubscribes it by far.
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")


def allowed_cpus() -> set[int]:
    """Numbers of the cores in the affinity mask; all of the machine's where there is no mask."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Whole cores, at least 1: the affinity mask's, or the cgroup's quota rounded up if less."""
    allowed = len(allowed_cpus())
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def physical_cpus(cgroup: Path = CGROUP, topology: Path = TOPOLOGY) -> int:
    """As `available_cpus`, with the hardware threads of a core counted once: for arithmetic.

    PyTorch takes as many by default, but knows no quota. Two threads of one core share its
    multipliers; the second is worth more to what reads and decodes.
    """
    cores = {_core(topology, number) for number in allowed_cpus()}
    return min(len(cores), available_cpus(cgroup))


def _core(topology: Path, number: int) -> str:
    """What the threads of one core have in common; the number itself where that is unknown."""
    try:
        return (topology / f"cpu{number}" / "topology" / "core_cpus_list").read_text()
    except OSError:
        return str(number)


def _quota(cgroup: Path) -> float | None:
    """Cores by cgroup v2's `cpu.max` or v1's CFS quota; None without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return None if int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
