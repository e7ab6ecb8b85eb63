from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from container.monitoring.profiler.recorder.machine import (
    Cores,
    Disks,
    Memory,
    Metric,
    Network,
    Rates,
)

STAT = """cpu  9 9 9 9 9 9 9 9 9 9
cpu0 {0} 0 0 {1} {2} 0 0 0 7 7
cpu1 100 0 0 900 0 0 0 0 0 0
cpu5 {3} 0 0 {4} 0 0 0 0 0 0
intr 12345 0 0
ctxt 99
"""


def values(metrics: Iterator[Metric]) -> dict[tuple[str, str], float]:
    return {(m.name, m.dimension): m.value for m in metrics}


def test_cores_are_busy_or_wait_for_disks(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(100, 1000, 50, 0, 1000))
    cores = Cores(stat, {0, 5})
    stat.write_text(STAT.format(130, 1050, 70, 75, 1025))
    assert values(cores.sample()) == {
        ("cpu0", "CPUUtilization"): 30.0,
        ("cpu0", "I/OWaitPercentage"): 20.0,
        ("cpu5", "CPUUtilization"): 75.0,
        ("cpu5", "I/OWaitPercentage"): 0.0,
    }
    assert values(cores.sample())[("cpu5", "CPUUtilization")] == 0.0  # the counters stand still


def test_falling_counters_count_as_no_use(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(100, 1000, 50, 0, 1000))
    cores = Cores(stat, {0})
    stat.write_text(STAT.format(200, 1000, 10, 0, 1000))
    assert set(values(cores.sample()).values()) == {0.0, 100.0}


def test_a_core_added_later_counts_from_then(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    whole = STAT.format(0, 0, 0, 0, 1000)
    stat.write_text("".join(line for line in whole.splitlines(True) if "cpu5" not in line))
    cores = Cores(stat, {1, 5})
    stat.write_text(whole)
    assert ("cpu5", "CPUUtilization") in values(cores.sample())
    stat.write_text(STAT.format(0, 0, 0, 10, 1030))
    assert values(cores.sample())[("cpu5", "CPUUtilization")] == 25.0


def test_the_counters_are_read_once_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 0\n" + "".join(f"cpu{n} 1 0 0 1 0 0 0 0\n" for n in range(64)))
    reads: list[Path] = []
    real = Path.read_text

    def read_text(path: Path) -> str:
        reads.append(path)
        return real(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    cores = Cores(stat, set(range(64)))
    assert len(list(cores.sample())) == 128
    assert reads == [stat, stat]


def test_without_proc_psutil_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Times(SimpleNamespace):
        def __iter__(self) -> Iterator[float]:
            return iter((self.user, self.idle))

    now = [Times(user=1.0, idle=3.0), Times(user=0.0, idle=0.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: now)
    cores = Cores(tmp_path / "none", {0})
    now = [Times(user=2.0, idle=4.0), Times(user=9.0, idle=9.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: now)
    assert values(cores.sample()) == {
        ("cpu0", "CPUUtilization"): 50.0,
        ("cpu0", "I/OWaitPercentage"): 0.0,
    }


def used(memory: Memory) -> float:
    (metric,) = memory.sample()
    assert metric[:3] == ("memory", "MemoryUsedPercent", "")
    return metric.value


def group(folder: Path, **files: str | int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "self"
    path.write_text(text)
    return path


def test_without_a_limit_the_machines_memory_counts(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", memory__max="max", memory__current=10)
    memory = Memory(tmp_path / "cgroup", own(tmp_path, "0::/\n"))
    assert memory.limit is None
    assert 0 < used(memory) < 100


def test_memory_of_a_limited_container(tmp_path: Path) -> None:
    group(
        tmp_path / "cgroup",
        memory__max=1000_000,
        memory__current=700_000,
        memory__stat="anon 5\ninactive_file 200000\nfile 9",
    )
    memory = Memory(tmp_path / "cgroup", own(tmp_path, "0::/\n"))
    assert memory.limit == 1000_000
    assert used(memory) == 50.0


def test_the_lowest_limit_of_all_parent_groups_counts(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root / "a", memory__max=1000, memory__current=900, memory__stat="inactive_file 0")
    group(root / "a" / "b", memory__max="max", memory__current=1, memory__stat="inactive_file 0")
    group(root / "a" / "b" / "c", memory__max=5000, memory__current=1, memory__stat="")
    memory = Memory(root, own(tmp_path, "0::/a/b/c\n"))
    assert memory.limit == 1000
    assert used(memory) == 90.0


@pytest.mark.parametrize("path", ["/", "/docker/0123", "/docker/0123/inner"])
def test_memory_of_cgroup_v1(tmp_path: Path, path: str) -> None:
    """A container sees its own group as the root, whatever its path in /proc."""
    root = tmp_path / "cgroup" / "memory"
    group(
        root,
        memory__limit_in_bytes=4000,
        memory__usage_in_bytes=3000,
        memory__stat="inactive_file 1\ntotal_inactive_file 1000",
    )
    memory = Memory(
        tmp_path / "cgroup", own(tmp_path, f"9:cpu,cpuacct:/x\n4:memory:{path}\n0::/\n")
    )
    assert memory.limit == 4000
    assert used(memory) == 50.0


@pytest.mark.parametrize("limit", [9223372036854771712, 2**55])
def test_limits_above_the_machines_memory_are_ignored(tmp_path: Path, limit: int) -> None:
    group(tmp_path / "cgroup" / "memory", memory__limit_in_bytes=limit, memory__usage_in_bytes=3)
    assert Memory(tmp_path / "cgroup", own(tmp_path, "4:memory:/\n")).limit is None


def test_a_machine_without_cgroups(tmp_path: Path) -> None:
    assert Memory(tmp_path / "none", tmp_path / "neither").limit is None


def test_rates_are_growth_per_second() -> None:
    counters, now = (100.0, 7.0), 10.0
    rates = Rates(lambda: counters, lambda: now)
    counters, now = (300.0, 3.0), 10.5
    assert rates.take() == [400.0, 0.0]
    assert rates.take() == [0.0, 0.0]
    counters, now = (310.0, 5.0), 12.5
    assert rates.take() == [5.0, 1.0]


def test_network_without_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def nics(received: int) -> dict[str, SimpleNamespace]:
        return {
            "lo": SimpleNamespace(bytes_recv=10**9 + received, bytes_sent=10**9),
            "eth0": SimpleNamespace(bytes_recv=received, bytes_sent=1),
            "eth1": SimpleNamespace(bytes_recv=received, bytes_sent=2),
        }

    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: nics(0))
    now = 5.0
    network = Network(lambda: now)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: nics(1000))
    now = 7.0
    assert list(network.sample()) == [
        Metric("network", "ReceiveBytesPerSecond", "Algorithm", 1000.0),
        Metric("network", "TransmitBytesPerSecond", "Algorithm", 0.0),
    ]


def test_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = SimpleNamespace(read_count=1, write_count=2, read_bytes=0, write_bytes=0)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: counters)
    now = 5.0
    disks = Disks(lambda: now)
    counters = SimpleNamespace(read_count=101, write_count=102, read_bytes=4000, write_bytes=800)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: counters)
    now = 7.0
    assert list(disks.sample()) == [
        Metric("i/o", "IOPS", "", 100.0),
        Metric("i/o", "ReadThroughputInBytesPerSecond", "", 2000.0),
        Metric("i/o", "WriteThroughputInBytesPerSecond", "", 400.0),
    ]


def test_disks_hidden_by_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    assert [m.value for m in Disks().sample()] == [0.0, 0.0, 0.0]
