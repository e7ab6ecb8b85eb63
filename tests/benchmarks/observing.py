"""What it costs a training job to be profiled and debugged.

    python tests/benchmarks/observing.py [--images FOLDER …] [--windows 12] [--seconds 10]

Four jobs train the same ResNet-18 on the same images: one that nothing watches, one profiled at
500 ms, one whose tensors are kept every 500 steps, one that is profiled and debugged. They take
turns of some seconds each, the other three halted with everything they started, so that all meet
the same weather. A turn's figure is the median of its steps; an overhead is the median over the
rounds of a turn's figure by the same round's unwatched one. The steps that keep tensors are apart:
what they cost more, spread over 500 steps, is part of the debugged figure. Memory is the unique and
proportionally shared part (PSS) of a job's processes.

The images are scikit-learn's digits, and every folder given.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from trees import write_tree

INTERVAL = 500
JOBS: dict[str, dict[str, Any]] = {
    "off": {},
    "profiled": {"profile": True, "profile_interval": 500, "profile_steps": "none"},
    "debugged": {"debug": True, "save_interval": INTERVAL},
    "both": {
        "profile": True,
        "profile_interval": 500,
        "profile_steps": "none",
        "debug": True,
        "save_interval": INTERVAL,
    },
}
HYPERPARAMETERS = {
    "arch": "resnet18",
    "weights": "none",
    "image_size": 32,
    "epochs": 1000,
    "batch_size": 32,
}
WARM = 2
"""Steps left out after a job goes on: its caches are cold."""
WATCHING = (
    "smdebug",
    "container.monitoring.monitor",
    "container.monitoring.debugger.",
    "container.monitoring.profiler.",
)
DATA_ONLY = {"container.rules.debugger", "container.rules.profiler"}
"""What hyperparameters are checked against; nothing but names and numbers."""


def train() -> None:
    """The job itself, in a process of its own: writes when every step ended."""
    from container.errors import JobEnded
    from container.train import main
    from container.training import trainer

    steps = Path(os.environ["STEPS"]).open("w", buffering=1)  # noqa: SIM115
    save_or_interrupt = trainer.Trainer._save_or_interrupt

    def noted(self: trainer.Trainer, *arguments: Any) -> None:
        save_or_interrupt(self, *arguments)
        steps.write(f"{time.perf_counter()}\n")
        if self.progress.step == 1:
            found = [name for name in sys.modules if name.startswith(WATCHING)]
            Path(os.environ["STEPS"] + ".modules").write_text(
                json.dumps(sorted(set(found) - DATA_ONLY))
            )

    trainer.Trainer._save_or_interrupt = noted  # type: ignore[method-assign, assignment]
    try:
        main()
    except JobEnded as ended:
        sys.exit(str(ended))


@dataclass
class Job:
    """One of the four, running or halted."""

    name: str
    base: Path
    process: subprocess.Popen[bytes]
    turns: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, base: Path, images: Path) -> "Job":
        (base / "input" / "data").mkdir(parents=True)
        (base / "input" / "data" / "training").symlink_to(images.resolve())
        write_tree(base, ["training"], HYPERPARAMETERS | JOBS[name])
        variables = {"SAGEMAKER_BASE_DIR": str(base), "STEPS": str(base / "steps")}
        with (base / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, "--train"],
                env=os.environ | variables,
                stdout=log,
                stderr=log,
            )
        return cls(name, base, process)

    def ends(self) -> list[float]:
        """When the steps ended so far, by `time.perf_counter`, which processes share on Linux."""
        path = self.base / "steps"
        text = path.read_text() if path.exists() else ""
        return [float(line) for line in text.splitlines() if line.strip()]

    def family(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def halt(self) -> None:
        for each in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.suspend()

    def go_on(self) -> None:
        for each in reversed(self.family()):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()

    def turn(self, seconds: float) -> None:
        """Train for so long, and at least for a few steps."""
        began = time.perf_counter()
        before = len(self.ends())
        self.go_on()
        while time.perf_counter() - began < seconds or len(self.ends()) < before + WARM + 4:
            if self.process.poll() is not None:
                sys.exit(f"{self.name} ended:\n{(self.base / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        self.halt()
        self.turns.append((began, time.perf_counter()))

    def steps(self) -> list[dict[int, float]]:
        """Seconds by step number, for every turn."""
        ends = self.ends()
        spans = [(n, a, b) for n, (a, b) in enumerate(itertools.pairwise(ends), 1)]
        found = []
        for began, ended in self.turns:
            inside = [(n, b - a) for n, a, b in spans if began < a and b < ended]
            found.append(dict(inside[WARM:]))
        return found

    def memory(self) -> float:
        """MiB of its processes."""
        return sum(each.memory_full_info().pss for each in self.family()) / 2**20

    def kill(self) -> None:
        if self.process.poll() is None:
            for each in self.family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self.process.wait()


def plain(steps: dict[int, float]) -> list[float]:
    return [seconds for number, seconds in steps.items() if number % INTERVAL]


def saving(job: Job) -> float:
    """Seconds that a step which keeps tensors takes beyond the others."""
    turns = job.steps()
    kept = [
        each[n] - statistics.median(plain(each)) for each in turns for n in each if not n % INTERVAL
    ]
    return statistics.median(kept) if kept else float("nan")


@contextlib.contextmanager
def jobs(root: Path, images: Path) -> Iterator[list[Job]]:
    started: list[Job] = []
    try:
        for name in JOBS:
            started.append(Job.start(name, root / name, images))
            while len(started[-1].ends()) < 5:
                if started[-1].process.poll() is not None:
                    sys.exit(f"{name} ended:\n{(root / name / 'log').read_text()[-2000:]}")
                time.sleep(0.1)
            started[-1].halt()
        yield started
    finally:
        for job in started:
            job.kill()


def measure(title: str, images: Path, windows: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder, jobs(Path(folder), images) as running:
        for number in range(windows):
            order: Callable[[list[Job]], Any] = list if number % 2 == 0 else reversed
            for job in order(running):
                job.turn(seconds)
        # On until each debugged job has kept tensors within a turn.
        for job in running:
            while "debug" in JOBS[job.name] and not any(
                not n % INTERVAL for turn in job.steps() for n in turn
            ):
                job.turn(seconds)
        middles = {
            job.name: [statistics.median(plain(turn)) for turn in job.steps()] for job in running
        }
        memory = {job.name: job.memory() for job in running}
        imported = json.loads((running[0].base / "steps.modules").read_text())
        extra = {job.name: saving(job) for job in running if "debug" in JOBS[job.name]}
    print(f"\n{title}: ResNet-18, batch {HYPERPARAMETERS['batch_size']}, {windows} rounds")
    off = statistics.median(middles["off"])
    print(
        f"  off       {off * 1000:7.1f} ms a step   {memory['off']:6.0f} MiB   imports {imported}"
    )
    for name in list(JOBS)[1:]:
        ratios = [a / b for a, b in zip(middles[name], middles["off"], strict=False)]
        added = statistics.median(ratios) - 1 + extra.get(name, 0.0) / INTERVAL / off
        line = f"  {name:9} {added:+7.2%} a step   {memory[name] - memory['off']:+6.0f} MiB"
        if name in extra:
            line += f"   (a step that keeps tensors: {extra[name]:+.2f} s)"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train()
        return
    from container.data.sources import Digits

    with tempfile.TemporaryDirectory() as folder:
        Digits().fill(Path(folder))
        measure("digits", Path(folder), options.windows, options.seconds)
    for images in options.images:
        measure(str(images), images, options.windows, options.seconds)


if __name__ == "__main__":
    main()
