"""Samples the machine's utilization from a separate process, in SageMaker's file format.

`python -m container.monitoring.profiler.recorder.sampler ROOT HOST SECONDS PARENT [CONFIG]` is that
process. It holds psutil and the standard library, and NVML's where it is installed.

`system/incremental/<YYYYMMDDHH>/<epoch of the full minute>.algo-N.json`, times in UTC, holds a JSON
object a line: `{"Type":"cpu","Name":"cpu0","Dimension":"CPUUtilization","Value":4.76,
"NodeId":"algo-1","Timestamp":1591160699.45}`.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Protocol

from container.monitoring.profiler.recorder.machine import (
    Cores,
    Disks,
    Gpus,
    Memory,
    Metric,
    Network,
)
from container.monitoring.profiler.settings import ConfigFile

LOOK_SECONDS = 1.0
"""Seconds between two checks whether the configuration has changed."""
STOP_SECONDS = 5.0
"""Seconds after which a sampler that does not stop is killed; its files are complete."""
_PR_SET_PDEATHSIG = 1


class Sampler:
    """Samples this host until it is stopped or its parent process ends.

    There is one per host, started by the first local rank or by the process that launches the
    ranks.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
        interval: seconds between two samples.
        say: where messages go.
        config: SageMaker's `profilerconfig.json`, followed when it changes while the job runs.
    """

    def __init__(
        self,
        root: Path,
        host: str,
        interval: float,
        say: Callable[[str], None] = print,
        config: Path | None = None,
    ) -> None:
        self._words = [str(root), host, str(interval), str(os.getpid())]
        self._words += [] if config is None else [str(config)]
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start from the main thread; the sampler ends with that thread. Never raises."""
        command = [
            sys.executable,
            "-m",
            "container.monitoring.profiler.recorder.sampler",
            *self._words,
        ]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            self._say(f"the profiler records no system metrics: {error}")

    def stop(self) -> None:
        """Stop, with all samples written. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class MetricsFile:
    """One host's metrics, in one file after another.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
    """

    def __init__(self, root: Path, host: str) -> None:
        self._root, self._host = root, host
        self._file: int | None = None
        self._minute = 0
        self._texts: dict[tuple[str, str, str], str] = {}

    def write(self, metrics: Iterable[Metric], now: float) -> None:
        """Append a sample taken at `now` (unix s): one write, so that it is there as a whole.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        end = f',"NodeId":{json.dumps(self._host)},"Timestamp":{now:.6f}}}\n'
        text = "".join(
            f"{self._beginning(metric)}{round(metric.value, 2)}{end}" for metric in metrics
        )
        minute = int(now // 60 * 60)
        if self._file is None or minute != self._minute:
            self._open(minute)
        data = text.encode()
        while data and self._file is not None:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, minute: int) -> None:
        """The file of a minute; once more if the clock was set back."""
        self.close()
        hour = time.strftime("%Y%m%d%H", time.gmtime(minute))
        path = self._root / "system" / "incremental" / hour / f"{minute}.{self._host}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file, self._minute = os.open(path, flags, 0o644), minute

    def _beginning(self, metric: Metric) -> str:
        key = (metric.kind, metric.name, metric.dimension)
        text = self._texts.get(key)
        if text is None:
            fields = dict(zip(("Type", "Name", "Dimension"), key, strict=True))
            beginning = json.dumps(fields, separators=(",", ":"))[:-1]
            text = self._texts[key] = f'{beginning},"Value":'
        return text


class MetricSource(Protocol):
    """Something that can be sampled."""

    def sample(self) -> Iterable[Metric]:
        """Metrics of the time since the last call, or of now."""


class Schedule:
    """Times at a fixed interval without drift; skips missed ones.

    Args:
        interval: seconds.
        clock: seconds that never jump.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin(interval)

    def begin(self, interval: float) -> None:
        """Start again, with this many seconds between two moments."""
        self._interval, self._start, self._count = interval, self._clock(), 0

    def wait(self) -> float:
        """Seconds until the next moment."""
        passed = (self._clock() - self._start) / self._interval
        self._count = max(self._count, int(passed)) + 1
        return max(self._start + self._count * self._interval - self._clock(), 0.0)


def record(
    file: MetricsFile,
    sources: Iterable[MetricSource],
    schedule: Schedule,
    sleep: Callable[[float], bool],
    wall: Callable[[], float] = time.time,
) -> None:
    """Sample until `sleep`, which is called with seconds, returns true.

    Raises:
        OSError: the metrics cannot be written.
    """
    try:
        while sleep(schedule.wait()):
            now = wall()
            file.write([metric for source in sources for metric in source.sample()], now)
    finally:
        file.close()


def main(words: list[str]) -> None:
    """Sample for the process PARENT, until SIGTERM or until it ends."""
    root, host, interval, parent = Path(words[0]), words[1], float(words[2]), int(words[3])
    _die_with_parent()
    stopping, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGTERM, _wake)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the parent as well

    config = ConfigFile(Path(words[4]) if len(words) > 4 else None, interval, _say)
    schedule = Schedule(interval)

    def sleep(seconds: float) -> bool:
        due = time.monotonic() + seconds
        while os.getppid() == parent:
            left = LOOK_SECONDS if config.off else max(due - time.monotonic(), 0.0)
            over, _, _ = select.select([stopping], [], [], min(left, LOOK_SECONDS))
            if over:
                return False
            if config.changed():
                schedule.begin(config.interval)
                due = time.monotonic() + config.interval
            elif not config.off and time.monotonic() >= due:
                return True
        return False

    try:
        sources: list[MetricSource] = [Memory(), Disks(), Cores(), Network(), Gpus(_say)]
        record(MetricsFile(root, host), sources, schedule, sleep)
    except OSError as error:
        _say(f"the profiler's system metrics end here: {error}")


def _wake(_number: int, _frame: FrameType | None) -> None:
    """The signal's number in the pipe is what wakes."""


def _die_with_parent() -> None:
    """Have Linux send SIGTERM when the parent ends; elsewhere the next sample notices."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(message: str) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
