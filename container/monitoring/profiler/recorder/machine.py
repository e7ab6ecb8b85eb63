"""Measures the machine's utilization: CPU cores, memory, network, disks and GPUs.

A container sees the host's figures. Cores are those this process may run on. Memory is the cgroup's
if it has a limit, counted as the kernel does before it kills.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from container.cpus import allowed_cpus

CGROUPS = Path("/sys/fs/cgroup")
_V1_NO_LIMIT = 1 << 60
"""Without a limit cgroup v1 shows the largest number of whole pages."""


class Metric(NamedTuple):
    """One figure of a sample, in SageMaker's terms: type, name, dimension, value."""

    kind: str
    name: str
    dimension: str
    value: float


class Cores:
    """Per core, the share of time it worked and the share it waited for disks, in %.

    A core that waits is not busy. Both count from the previous sample.

    Args:
        stat: the kernel's counters; read once a sample, however many cores there are.
        allowed: numbers of the cores that count; by default those this process may run on.
    """

    def __init__(self, stat: Path = Path("/proc/stat"), allowed: set[int] | None = None) -> None:
        self._stat = stat
        self._allowed = allowed_cpus() if allowed is None else allowed
        self._before = self._read()

    def sample(self) -> Iterator[Metric]:
        """Two figures a core."""
        now = self._read()
        for core, (busy, waited, passed) in now.items():
            before = self._before.get(core, (busy, waited, passed))
            span = passed - before[2]
            shares = [
                min(max(100 * (after - earlier) / span, 0.0), 100.0) if span > 0 else 0.0
                for after, earlier in ((busy, before[0]), (waited, before[1]))
            ]
            yield Metric("cpu", f"cpu{core}", "CPUUtilization", shares[0])
            yield Metric("cpu", f"cpu{core}", "I/OWaitPercentage", shares[1])
        self._before = now

    def _read(self) -> dict[int, tuple[float, float, float]]:
        """By core: time busy, waiting for disks and altogether, since the machine started."""
        try:
            lines = self._stat.read_text().splitlines()
        except FileNotFoundError:
            return self._ask()
        found: dict[int, tuple[float, float, float]] = {}
        for line in lines[1:]:
            if not line.startswith("cpu"):
                break
            name, *counts = line.split()
            core = int(name[3:])
            if core in self._allowed:
                # user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
                times = list(map(int, counts[:8]))
                total = sum(times)
                found[core] = (total - times[3] - times[4], times[4], total)
        return found

    def _ask(self) -> dict[int, tuple[float, float, float]]:
        """The same where there is no /proc."""
        found: dict[int, tuple[float, float, float]] = {}
        for core, times in enumerate(psutil.cpu_times(percpu=True)):
            if core in self._allowed:
                total = sum(times)
                found[core] = (total - times.idle, 0.0, total)
        return found


class Memory:
    """Memory in use, in % of what is available to the job."""

    def __init__(self, cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> None:
        self._limited = _memory_limit(cgroups, own)

    @property
    def limit(self) -> int | None:
        """Bytes the cgroup may use; None where the machine's memory is the limit."""
        return self._limited.limit if self._limited else None

    def sample(self) -> Iterator[Metric]:
        """One figure."""
        used = self._limited.used() if self._limited else psutil.virtual_memory().percent
        yield Metric("memory", "MemoryUsedPercent", "", used)


class Network:
    """Bytes a second in and out over all interfaces but loopback.

    SageMaker calls a container's traffic `Algorithm`; its other dimension, `Platform`, is that of
    SageMaker's own agents outside the container, which cannot be seen from within.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = Rates(_network_bytes, clock)

    def sample(self) -> Iterator[Metric]:
        """Two figures."""
        received, sent = self._rates.take()
        yield Metric("network", "ReceiveBytesPerSecond", "Algorithm", received)
        yield Metric("network", "TransmitBytesPerSecond", "Algorithm", sent)


class Disks:
    """Bytes and operations a second on the machine's disks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = Rates(_disk_counts, clock)

    def sample(self) -> Iterator[Metric]:
        """Three figures."""
        operations, read, written = self._rates.take()
        yield Metric("i/o", "IOPS", "", operations)
        yield Metric("i/o", "ReadThroughputInBytesPerSecond", "", read)
        yield Metric("i/o", "WriteThroughputInBytesPerSecond", "", written)


class Rates:
    """Converts counters to rates per second; a counter that fell has restarted."""

    def __init__(
        self, read: Callable[[], tuple[float, ...]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._before, self._at = read(), clock()

    def take(self) -> list[float]:
        """Rates per second since the last call."""
        now, at = self._read(), self._clock()
        span = at - self._at
        rates = [
            max(after - before, 0.0) / span if span > 0 else 0.0
            for after, before in zip(now, self._before, strict=True)
        ]
        self._before, self._at = now, at
        return rates


class _MemoryLimit:
    """A cgroup with a limit to its memory."""

    def __init__(self, limit: int, usage: Path, cache: str) -> None:
        self.limit = limit
        self._usage, self._cache = usage, cache

    def used(self) -> float:
        """Per cent of the limit, without the file cache that the kernel can drop at once."""
        used = int(self._usage.read_text())
        for line in (self._usage.parent / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == self._cache:
                used -= int(value)
                break
        return min(100 * max(used, 0) / self.limit, 100.0)


def _memory_limit(cgroups: Path, own: Path) -> _MemoryLimit | None:
    """The tightest limit among this process's cgroup and those around it; v2 or v1."""
    groups = _own_groups(own)
    found = []
    for root, path, limit, usage, cache in (
        (cgroups, groups.get(""), "memory.max", "memory.current", "inactive_file"),
        (
            cgroups / "memory",
            groups.get("memory"),
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        if path is None:
            continue
        inner = root / path.lstrip("/")
        # A container without a cgroup namespace sees a path that it does not have.
        folder = inner if inner.is_dir() else root
        while folder == root or root in folder.parents:
            value = _number(folder / limit)
            if value is not None and value < _V1_NO_LIMIT:
                found.append((value, folder / usage, cache))
            folder = folder.parent
    machine = psutil.virtual_memory().total
    limits = [each for each in found if each[0] < machine]
    return _MemoryLimit(*min(limits)) if limits else None


def _own_groups(own: Path) -> dict[str, str]:
    """This process's path in each hierarchy of cgroups; v2's has no name."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return {}
    groups: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    return groups


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _network_bytes() -> tuple[float, ...]:
    found = psutil.net_io_counters(pernic=True)
    counters = [each for name, each in found.items() if name not in ("lo", "lo0")]
    return sum(each.bytes_recv for each in counters), sum(each.bytes_sent for each in counters)


def _disk_counts() -> tuple[float, ...]:
    """Operations, bytes read and written; zeros where a sandbox hides the disks."""
    found = psutil.disk_io_counters()
    if found is None:
        return 0.0, 0.0, 0.0
    return found.read_count + found.write_count, found.read_bytes, found.write_bytes


class Gpus:
    """Per GPU, the share of time it worked and the share of its memory in use, in %.

    Without a driver or NVML's Python library there are none, and a GPU that stops responding is
    skipped from then on. Both are logged once.

    Args:
        say: where messages go.
        nvml: a replacement for the library.
    """

    def __init__(self, say: Callable[[str], None], nvml: Any = None) -> None:
        self._say = say
        self._gpus: dict[int, Any] = {}
        self._silent: set[str] = set()
        try:
            self._nvml = importlib.import_module("pynvml") if nvml is None else nvml
        except ImportError as error:
            say(f"the profiler records no GPU metrics: {error}")
            return
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._gpus = {i: self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)}
        except self._nvml.NVMLError as error:
            say(f"the profiler records no GPU metrics: {error}")

    def sample(self) -> Iterator[Metric]:
        """Two figures a GPU."""
        for number, gpu in self._gpus.items():
            name = f"gpu{number}"
            for dimension, ask in (
                ("GPUUtilization", self._utilization),
                ("GPUMemoryUtilization", self._memory),
            ):
                if f"{name} {dimension}" in self._silent:
                    continue
                try:
                    value = ask(gpu)
                except self._nvml.NVMLError as error:
                    self._silent.add(f"{name} {dimension}")
                    self._say(f"the profiler records no {dimension} of {name} any more: {error}")
                    continue
                yield Metric("gpu", name, dimension, value)

    def _utilization(self, gpu: Any) -> float:
        return float(self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)

    def _memory(self, gpu: Any) -> float:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
        return 100 * memory.used / memory.total if memory.total else 0.0
