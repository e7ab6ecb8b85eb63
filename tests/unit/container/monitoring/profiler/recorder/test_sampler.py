import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from container.cpus import allowed_cpus
from container.monitoring.profiler.recorder.machine import Metric
from container.monitoring.profiler.recorder.sampler import MetricsFile, Sampler, Schedule, record
from tests.unit.container.monitoring.profiler.smdebug_readers import frames, system_events


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def lines(root: Path) -> int:
    return sum(path.read_text().count("\n") for path in root.rglob("*.json"))


def samplers(root: Path) -> list[psutil.Process]:
    """Return the running samplers of a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        running = process.info["status"] != psutil.STATUS_ZOMBIE
        if running and str(root) in (process.info["cmdline"] or ()):
            found.append(process)
    return found


def test_smdebug_reads_the_samples(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sampler = Sampler(tmp_path, "algo-1", 0.1)
    sampler.start()
    wait_for(lambda: lines(tmp_path) > 40, "no samples")
    sampler.stop()
    sampler.stop()
    assert samplers(tmp_path) == []
    found = system_events(tmp_path)
    cores = sorted(allowed_cpus())
    assert {(e.type, e.name, e.dimension) for e in found if e.type != "gpu"} == {
        ("memory", "MemoryUsedPercent", ""),
        ("i/o", "IOPS", ""),
        ("i/o", "ReadThroughputInBytesPerSecond", ""),
        ("i/o", "WriteThroughputInBytesPerSecond", ""),
        ("network", "ReceiveBytesPerSecond", "Algorithm"),
        ("network", "TransmitBytesPerSecond", "Algorithm"),
        *{("cpu", f"cpu{n}", "CPUUtilization") for n in cores},
        *{("cpu", f"cpu{n}", "I/OWaitPercentage") for n in cores},
    }
    assert {e.node_id for e in found} == {"algo-1"}
    assert all(0 <= e.value <= 100 for e in found if e.type in ("cpu", "memory"))
    times = sorted({e.timestamp for e in found})
    assert len(times) > 2
    assert time.time() - 60 < times[0] < times[-1] < time.time()
    system, _ = frames(tmp_path)
    assert len(system) == len(found)
    assert capfd.readouterr().out.count("the profiler records no GPU metrics") <= 1


def test_it_follows_its_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, root = tmp_path / "profilerconfig.json", tmp_path / "profiler"
    config.write_text("{}")
    sampler = Sampler(root, "algo-1", 60.0, config=config)
    sampler.start()
    wait_for(lambda: samplers(root), "no sampler")
    said, written = "", 0

    def hear(text: str, words: str) -> bool:
        nonlocal said, written
        written += 1  # a file that existed when the sampler first looked is not a change
        config.write_text(text + " " * (written % 2))
        said += capfd.readouterr().out
        return words in said

    for text, words in (
        ('{"ProfilingIntervalInMilliseconds": 200}', "every 200 ms from here on"),
        ('{"DisableProfiler": true}', "not recorded from here on"),
        ('{"ProfilingIntervalInMilliseconds": 100}', "every 100 ms from here on"),
    ):
        wait_for(partial(hear, text, words), words)
    wait_for(lambda: lines(root) > 0, "no samples")
    sampler.stop()


PARENT = """
import os, sys, time
from pathlib import Path
from container.monitoring.profiler.recorder.sampler import Sampler
sampler = Sampler(Path(sys.argv[1]), "algo-1", float(sys.argv[2]))
sampler.start()
print(sampler._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("interval", ["0.1", "60"])
def test_it_ends_with_its_parent(tmp_path: Path, interval: str) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), interval]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if interval == "0.1":
            wait_for(lambda: lines(tmp_path), "no samples")
        else:
            wait_for(lambda: _waits(child), "the sampler does not begin")
        parent.kill()
    wait_for(lambda: not samplers(tmp_path), "the sampler goes on")
    assert (lines(tmp_path) > 0) == (interval == "0.1")


def _waits(process: psutil.Process) -> bool:
    """Return whether the sampler sleeps and catches SIGTERM."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in text.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def test_it_ends_if_its_parent_ended_before_it_started(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "container.monitoring.profiler.recorder.sampler",
        str(tmp_path),
        "algo-1",
        "0.1",
        "1",
    ]
    done = subprocess.run(words, check=False, timeout=30, capture_output=True)
    assert done.returncode == 0
    assert lines(tmp_path) == 0


def test_sigterm_ends_it_between_samples(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path, "algo-1", 60)
    sampler.start()
    wait_for(lambda: samplers(tmp_path), "no sampler")
    (child,) = samplers(tmp_path)
    wait_for(lambda: _waits(child), "the sampler does not begin")
    child.terminate()
    wait_for(lambda: not samplers(tmp_path), "the sampler goes on")
    sampler.stop()


def test_a_full_disk_ends_it_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "system").write_text("a file in its place")
    sampler = Sampler(tmp_path, "algo-1", 0.1)
    sampler.start()
    heard = ""

    def hear() -> bool:
        nonlocal heard
        heard += capfd.readouterr().out
        return "end here" in heard

    wait_for(hear, "no line")
    wait_for(lambda: not samplers(tmp_path), "the sampler goes on")
    sampler.stop()
    heard += capfd.readouterr().out
    said = [line for line in heard.splitlines() if "GPU" not in line]
    assert len(said) == 1
    assert said[0].startswith("the profiler's system metrics end here: ")


def test_a_sampler_that_cannot_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    sampler = Sampler(tmp_path, "algo-1", 0.1, said.append)
    sampler.start()
    sampler.stop()
    assert len(said) == 1
    assert "no system metrics" in said[0]


def test_its_process_imports_no_large_packages() -> None:
    code = (
        "import sys; from container.monitoring.profiler.recorder import sampler; "
        "print(*(m for m in ('torch', 'numpy', 'pandas', 'smdebug') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


class Sleeper:
    """Simulates sleep, each time slightly too long, and ends after some samples."""

    def __init__(self, late: list[float]) -> None:
        self.now, self.late = 100.0, late

    def __call__(self, seconds: float) -> bool:
        if not self.late:
            return False
        self.now += seconds + self.late.pop(0)
        return True


class One:
    def sample(self) -> list[Metric]:
        return [Metric("cpu", "cpu0", "CPUUtilization", 1.0)]


def sample_at(root: Path, late: list[float], offset: Callable[[float], float]) -> list[float]:
    sleeper = Sleeper(late)
    times: list[float] = []

    def wall() -> float:
        times.append(sleeper.now)
        return offset(sleeper.now)

    schedule = Schedule(0.5, lambda: sleeper.now)
    record(MetricsFile(root, "algo-1"), [One()], schedule, sleeper, wall)
    return [moment - 100.0 for moment in times]


def test_samples_do_not_drift(tmp_path: Path) -> None:
    times = sample_at(tmp_path, [0.01] * 1000, lambda now: now + 1e9)
    assert len(times) == 1000
    assert times[-1] == pytest.approx(500.01)
    assert len(system_events(tmp_path)) == 1000


def test_missed_samples_are_left_out(tmp_path: Path) -> None:
    times = sample_at(tmp_path, [0.0, 1.3, 0.0, 0.0], lambda now: now + 1e9)
    assert times == pytest.approx([0.5, 2.3, 2.5, 3.0])


def test_a_wall_clock_jump_changes_times_but_not_the_interval(tmp_path: Path) -> None:
    jumps = {2: -3600.0, 3: 7200.0}

    def wall(now: float) -> float:
        return 1_790_000_000 + now + jumps.get(int(now - 100), 0.0)

    times = sample_at(tmp_path, [0.0] * 10, wall)
    assert times == pytest.approx([0.5 * (n + 1) for n in range(10)])
    assert len(system_events(tmp_path)) == 10
    assert len({path.parent for path in tmp_path.rglob("*.json")}) == 3
