"""The number of CPU cores this process may use, by its affinity mask and cgroup.

`os.cpu_count()` and torch's default count all cores of the machine, far too many for a container
limited to half a core.
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")


def allowed_cpus() -> set[int]:
    """The numbers of the cores in the affinity mask, or of all cores if there is no mask."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def available_cpus(cgroup: Path = CGROUP) -> int:
    """The number of cores in the affinity mask, or the cgroup's quota rounded up if less."""
    allowed = len(allowed_cpus())
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def physical_cpus(cgroup: Path = CGROUP, topology: Path = TOPOLOGY) -> int:
    """As `available_cpus`, but counting the hardware threads of a core once.

    For arithmetic, as the threads of a core share its multipliers; reading and decoding benefit
    more from a second thread. PyTorch's default is the same but ignores the quota.
    """
    cores = {_core(topology, number) for number in allowed_cpus()}
    return min(len(cores), available_cpus(cgroup))


def _core(topology: Path, number: int) -> str:
    """An identifier shared by the threads of one core; the number itself if unknown."""
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
