"""The machine's use, sampled by a process beside the training.

`python -m container.monitoring.profiler.sampler ROOT HOST SECONDS PARENT [CONFIG]` is that process.
It holds psutil and the standard library, and NVML's where it is installed.
"""

import ctypes
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

from container.monitoring.profiler.gpus import Gpus
from container.monitoring.profiler.machine import Cores, Disks, Memory, Metric, Network
from container.monitoring.profiler.metrics_file import MetricsFile
from container.monitoring.profiler.orders import Orders

LOOK_SECONDS = 1.0
"""Between two looks whether the configuration has changed."""
STOP_SECONDS = 5.0
"""A sampler that takes longer to end is killed; its lines are in the files already."""
_PR_SET_PDEATHSIG = 1


class Sampler:
    """Samples this host until it is stopped, or the process that started it ends.

    One a host: the first local rank's, or the process that launches the ranks.

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
        """Begin; from the main thread, with whose end the sampler ends. Never raises."""
        command = [sys.executable, "-m", "container.monitoring.profiler.sampler", *self._words]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            self._say(f"the profiler records no system metrics: {error}")

    def stop(self) -> None:
        """End, with all that was sampled in the files; twice is harmless."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Source(Protocol):
    """Something that can be sampled."""

    def sample(self) -> Iterable[Metric]:
        """Figures of the time since last asked, or of now."""


class Schedule:
    """Moments an interval apart that do not drift; those that were missed are left out.

    Args:
        interval: seconds.
        clock: seconds that never jump.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin(interval)

    def begin(self, interval: float) -> None:
        """Start anew, with this many seconds between two moments."""
        self._interval, self._start, self._count = interval, self._clock(), 0

    def wait(self) -> float:
        """Seconds until the next moment."""
        passed = (self._clock() - self._start) / self._interval
        self._count = max(self._count, int(passed)) + 1
        return max(self._start + self._count * self._interval - self._clock(), 0.0)


def record(
    file: MetricsFile,
    sources: Iterable[Source],
    schedule: Schedule,
    sleep: Callable[[float], bool],
    wall: Callable[[], float] = time.time,
) -> None:
    """Sample until `sleep`, which is told for how many seconds, says that it is over.

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

    orders = Orders(Path(words[4]) if len(words) > 4 else None, interval, _say)
    schedule = Schedule(interval)

    def sleep(seconds: float) -> bool:
        due = time.monotonic() + seconds
        while os.getppid() == parent:
            left = LOOK_SECONDS if orders.off else max(due - time.monotonic(), 0.0)
            over, _, _ = select.select([stopping], [], [], min(left, LOOK_SECONDS))
            if over:
                return False
            if orders.changed():
                schedule.begin(orders.interval)
                due = time.monotonic() + orders.interval
            elif not orders.off and time.monotonic() >= due:
                return True
        return False

    try:
        sources: list[Source] = [Memory(), Disks(), Cores(), Network(), Gpus(_say)]
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
