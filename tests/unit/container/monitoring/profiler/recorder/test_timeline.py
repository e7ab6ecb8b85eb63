import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container.monitoring.profiler.phases import PHASES
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.recorder.device import DeviceClock, DeviceSpans
from container.monitoring.profiler.recorder.event_file import TimelineFile
from container.monitoring.profiler.recorder.machine import Metric
from container.monitoring.profiler.recorder.sampler import MetricsFile
from container.monitoring.profiler.recorder.timeline import Timeline
from tests.unit.container.monitoring.profiler.clocks import Clock
from tests.unit.container.monitoring.profiler.recorder.test_device import FakeEvent, Stream
from tests.unit.container.monitoring.profiler.smdebug_readers import (
    MergedTimeline,
    PandasFrame,
    PandasFrameAnalysis,
    PT_dataloader_analysis,
    frames,
    framework_events,
)

START = 1_790_000_000
CPU: Any = SimpleNamespace(type="cpu", index=None)


def timeline(root: Path, clock: Clock, rank: int = 0, **options: Any) -> Timeline:
    return Timeline(
        root,
        "algo-1",
        rank=rank,
        device=options.pop("device", CPU),
        clock=clock,
        wall=lambda: START * 10**9 + clock(),
        **options,
    )


def slow(clock: Clock, batches: int, seconds: float) -> Iterator[int]:
    for batch in range(batches):
        clock.advance(seconds)
        yield batch


def spend(line: Timeline, clock: Clock, name: str, seconds: float) -> None:
    with line.phase(name):
        clock.advance(seconds)


def train(line: Timeline, clock: Clock, steps: int = 3, first: int = 0) -> None:
    for _ in line.batches("train", slow(clock, steps, 0.1), first):
        spend(line, clock, "copy", 0.01)
        spend(line, clock, "forward", 0.2)
        clock.advance(0.05)
        spend(line, clock, "backward", 0.4)
        spend(line, clock, "optimizer", 0.04)


def events(root: Path) -> list[tuple[str, str, int, float, float]]:
    """Return name, mode, step, start and seconds of each event, by start, the longest first."""
    found = [
        (
            e.event_name,
            e.event_args["mode"],
            e.event_args["step_num"],
            round(e.start_time / 1e6 - START, 6),
            e.duration / 1e6,
        )
        for e in framework_events(root)
    ]
    return sorted(found, key=lambda e: (e[3], -e[4]))


def test_a_step_and_its_phases(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    train(line, clock, steps=1, first=7)
    line.close()
    line.close()
    assert events(tmp_path) == [
        ("Step:ModeKeys.TRAIN", "train", 7, 0.0, 0.8),
        ("DataLoaderIter::GetNext", "train", 7, 0.0, 0.1),
        ("CopyHostToDevice", "train", 7, 0.1, 0.01),
        ("Forward", "train", 7, 0.11, 0.2),
        ("Backward(post-forward)", "train", 7, 0.36, 0.4),
        ("Optimizer", "train", 7, 0.76, 0.04),
    ]


def test_steps_are_contiguous_and_contain_their_phases(tmp_path: Path) -> None:
    clock = Clock(12_345)
    line = timeline(tmp_path, clock)
    for step, _ in enumerate(line.batches("train", slow(clock, 50, 0.000_012_3), 0)):
        for name in ("copy", "forward", "backward", "optimizer", "metrics"):
            spend(line, clock, name, 0.000_001_7 * (step % 7 + 1))
    line.close()
    found = framework_events(tmp_path)
    steps = sorted((e for e in found if "Step" in e.event_name), key=lambda e: e.start_time)
    assert [e.event_args["step_num"] for e in steps] == list(range(50))
    assert all(a.end_time == b.start_time for a, b in pairwise(steps))
    for step in steps:
        inside = sorted(
            (
                e
                for e in found
                if e.event_args["step_num"] == step.event_args["step_num"] and e is not step
            ),
            key=lambda e: e.start_time,
        )
        assert len(inside) == 6
        edges = [step.start_time, *(t for e in inside for t in (e.start_time, e.end_time))]
        assert edges == sorted(edges)
        # There is no time between these phases, so together they are the step.
        assert sum(e.duration for e in inside) == step.duration


def test_a_phase_within_another_interrupts_it(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    for _ in line.batches("train", [0], 0):
        with line.phase("backward"):
            clock.advance(1)
            spend(line, clock, "debug", 2)
            clock.advance(3)
            with line.phase("backward"):
                clock.advance(4)
    line.close()
    found = [e for e in events(tmp_path) if e[4] > 0]
    assert found[0] == ("Step:ModeKeys.TRAIN", "train", 0, 0.0, 10.0)
    assert found[1:] == [
        ("Backward(post-forward)", "train", 0, 0.0, 1.0),
        ("Debug", "train", 0, 1.0, 2.0),
        ("Backward(post-forward)", "train", 0, 3.0, 3.0),
        ("Backward(post-forward)", "train", 0, 6.0, 4.0),
    ]


def test_phases_outside_of_steps_have_the_number_of_the_last_step(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    spend(line, clock, "export", 1)
    train(line, clock, steps=2, first=40)
    with line.phase("evaluation"):
        for _ in line.batches("eval", slow(clock, 1, 0.5), 0):
            spend(line, clock, "forward", 0.25)
        clock.advance(0.25)
    spend(line, clock, "checkpoint", 2)
    line.close()
    found = {e[0]: e for e in events(tmp_path)}
    assert found["Export"] == ("Export", "other", 0, 0.0, 1.0)
    assert found["Step:ModeKeys.EVAL"] == ("Step:ModeKeys.EVAL", "eval", 0, 2.6, 0.75)
    assert found["Forward"] == ("Forward", "eval", 0, 3.1, 0.25)
    assert found["Evaluation"] == ("Evaluation", "other", 41, 2.6, 1.0)
    assert found["Checkpoint"] == ("Checkpoint", "other", 41, 3.6, 2.0)


def test_a_checkpoint_between_two_batches_belongs_to_the_step(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    for _ in line.batches("train", slow(clock, 2, 0.5), 0):
        spend(line, clock, "checkpoint", 3)
    line.close()
    assert [e[1:] for e in events(tmp_path) if e[0] == "Checkpoint"] == [
        ("train", 0, 0.5, 3.0),
        ("train", 1, 4.0, 3.0),
    ]


def test_leaving_a_loop_early_ends_its_step(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    for batch in line.batches("train", slow(clock, 9, 1), 0):
        clock.advance(1)
        if batch == 1:
            break
    clock.advance(100)
    spend(line, clock, "checkpoint", 1)
    line.close()
    steps = [e for e in events(tmp_path) if "Step" in e[0]]
    assert [e[4] for e in steps] == [2.0, 2.0]
    assert events(tmp_path)[-1] == ("Checkpoint", "other", 1, 104.0, 1.0)


def test_a_step_that_fails_ends_with_the_timeline(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    batches = line.batches("train", slow(clock, 9, 1), 0)

    def train_one() -> None:
        for _ in batches:
            with line.phase("forward"):
                clock.advance(1)
                raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train_one()
    clock.advance(1)
    line.close()
    batches.close()  # type: ignore[attr-defined]
    assert events(tmp_path) == [
        ("Step:ModeKeys.TRAIN", "train", 0, 0.0, 3.0),
        ("DataLoaderIter::GetNext", "train", 0, 0.0, 1.0),
        ("Forward", "train", 0, 1.0, 1.0),
    ]


def test_a_failing_loader_has_no_step(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)

    def broken() -> Iterator[int]:
        yield 0
        raise OSError("unreadable")

    def train_all() -> None:
        for _ in line.batches("train", broken(), 0):
            clock.advance(1)

    with pytest.raises(OSError, match="unreadable"):
        train_all()
    line.close()
    assert [e[2] for e in events(tmp_path) if "Step" in e[0]] == [0]


def test_smdebugs_analyses_know_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    spend(line, clock, "export", 1)
    train(line, clock, steps=4)
    with line.phase("evaluation"):
        for _ in line.batches("eval", slow(clock, 2, 0.5), 0):
            spend(line, clock, "forward", 0.25)
    line.close()
    metrics = MetricsFile(tmp_path, "algo-1")
    for second in range(6):
        metrics.write([Metric("cpu", "cpu0", "CPUUtilization", 50.0)], START + second)
    metrics.close()

    system, framework = frames(tmp_path)
    assert set(framework["framework_metric"]) >= {"Forward", "Backward(post-forward)"}
    assert framework["step"].min() == 0
    analysis = PandasFrameAnalysis(system, framework)
    stats = analysis.get_step_statistics()
    assert len(stats) > 0
    intervals = analysis.get_training_phase_intervals()
    assert {"Step:ModeKeys.TRAIN", "Step:ModeKeys.EVAL"} <= set(intervals["phase"])
    loader = PT_dataloader_analysis(PandasFrame(str(tmp_path)))
    loader.analyze_dataloader_getnext()
    assert "GetNext calls made during the training 6" in capsys.readouterr().out

    merged = MergedTimeline(str(tmp_path), output_directory=str(tmp_path / "merged"))
    merged.merge_timeline(START * 10**6, (START + 60) * 10**6)
    (path,) = (tmp_path / "merged").rglob("*.json")
    names = Counter(entry["name"] for entry in json.loads(path.read_text()) if "dur" in entry)
    assert names["Step:ModeKeys.TRAIN"] == 4
    assert names["Forward"] == 6


def test_ranks_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom types import SimpleNamespace as S\n"
        "from container.monitoring.profiler.recorder.timeline import Timeline\n"
        "rank = int(sys.argv[2])\n"
        "line = Timeline(Path(sys.argv[1]), 'algo-1', rank=rank, device=S(type='cpu', index=0))\n"
        "for _ in line.batches('train', range(20), 0):\n"
        "    with line.phase('forward'): pass\n"
        "line.close()\n"
    )
    ranks = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path, str(rank)]) for rank in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]
    found = framework_events(tmp_path)
    assert Counter(e.event_args["rank"] for e in found) == {0: 60, 1: 60}
    assert len({e.node_id for e in found}) == 2


KILLED = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from container.monitoring.profiler.recorder import timeline
timeline.FLUSH_SECONDS = 0.05
line = timeline.Timeline(
    Path(sys.argv[1]), "algo-1", rank=0, device=SimpleNamespace(type="cpu", index=None)
)
for step in line.batches("train", range(100), 0):
    if step == 10:
        while not any(Path(sys.argv[1]).rglob("*.tmp")) or "9," not in line._file.path.read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_job_keeps_flushed_events(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    clock = Clock()
    timeline(tmp_path, clock).close()  # the job continues
    steps = [e[2] for e in events(tmp_path) if "Step" in e[0]]
    assert steps == list(range(10))


def test_a_full_disk_is_reported_once_and_training_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def full(self: TimelineFile, events: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TimelineFile, "write", full)
    clock = Clock()
    line = timeline(tmp_path, clock, say=said.append)
    train(line, clock)
    line._flush()
    train(line, clock)
    line.close()
    assert said == ["the profiler's timeline ends here: [Errno 28] No space left on device"]


def test_a_folder_that_cannot_be_written_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "framework").write_text("a file in its place")
    said: list[str] = []
    clock = Clock()
    line = timeline(tmp_path, clock, say=said.append)
    train(line, clock)
    line.close()
    assert len(said) == 1
    assert "framework" in said[0]


def test_memory_does_not_grow_if_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container.monitoring.profiler.recorder.timeline.MOST_EVENTS", 100)
    said: list[str] = []
    clock = Clock()
    line = timeline(tmp_path, clock, say=said.append)
    train(line, clock, steps=1000)
    assert len(line._events) <= 100
    line.close()
    assert any("gaps" in each for each in said)
    assert threading.active_count() < 20


def test_phases_on_a_gpu_are_recorded_beside_the_hosts(tmp_path: Path) -> None:
    clock = Clock()
    stream = Stream(clock, 0.0)
    gpu: Any = SimpleNamespace(type="cuda", index=1)
    spans = DeviceSpans(DeviceClock(stream.event, clock))
    line = timeline(tmp_path, clock, device=gpu, spans=spans)
    for _ in line.batches("train", slow(clock, 1, 0.1), 5):
        spend(line, clock, "copy", 0.001)
        stream.behind = round(0.3e9)  # the device is done 0.3 s after the host
        spend(line, clock, "forward", 0.01)
        with line.phase("backward"):
            clock.advance(0.01)
            stream.behind = round(0.9e9)
        spend(line, clock, "checkpoint", 1)
    line.close()
    found = framework_events(tmp_path)
    device = {e.event_name: e for e in found if e.event_phase == "gpu_functions-dev:1"}
    host = {e.event_name: e for e in found if e.event_phase != "gpu_functions-dev:1"}
    assert set(device) == {"CopyHostToDevice", "Forward", "Backward(post-forward)"}
    assert {name: e.duration for name, e in device.items()} == {
        "CopyHostToDevice": 1_000,
        "Forward": 10_000,
        "Backward(post-forward)": 610_000,
    }
    assert host["Forward"].duration == 10_000
    assert device["Forward"].start_time - host["Forward"].start_time == 300_000
    assert device["Forward"].event_args == {"step_num": 5, "mode": "train", "rank": 0}
    assert PHASES["forward"] in host


def test_a_failing_gpu_loses_only_its_own_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    stream = Stream(clock, 0.0)
    gpu: Any = SimpleNamespace(type="cuda", index=0)
    said: list[str] = []
    spans = DeviceSpans(DeviceClock(stream.event, clock))
    line = timeline(tmp_path, clock, device=gpu, spans=spans, say=said.append)
    train(line, clock, steps=1)

    def fail(self: FakeEvent, *_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nCompile with ...")

    for name in ("record", "query", "synchronize"):
        monkeypatch.setattr(FakeEvent, name, fail)
    train(line, clock, steps=1, first=1)
    line.close()
    assert said == [
        "the profiler stops timing phases on the GPU: CUDA error: an illegal memory access"
    ]
    assert [e[2] for e in events(tmp_path) if "Step" in e[0]] == [0, 1]


def test_a_custom_phase_keeps_its_name(tmp_path: Path) -> None:
    clock = Clock()
    line = timeline(tmp_path, clock)
    spend(line, clock, 'warm "up"', 1)
    line.close()
    assert events(tmp_path) == [('warm "up"', "other", 0, 0.0, 1.0)]


def test_the_reader_knows_every_phase(tmp_path: Path) -> None:
    clock = Clock()
    stream = Stream(clock, 0.0)
    gpu: Any = SimpleNamespace(type="cuda", index=0)
    spans = DeviceSpans(DeviceClock(stream.event, clock))
    line = timeline(tmp_path, clock, rank=3, device=gpu, spans=spans)
    inside = [name for name in PHASES if name not in ("data", "evaluation", "export", "report")]
    for _ in line.batches("train", slow(clock, 2, 0.5), 0):
        for name in inside:
            spend(line, clock, name, 0.25)
    spend(line, clock, "evaluation", 4)
    line.close()
    metrics = MetricsFile(tmp_path, "algo-1")
    metrics.write([Metric("memory", "MemoryUsedPercent", "", 50.0)], START + 1)
    metrics.close()
    recording = Recording.read(tmp_path)
    assert recording.problems == ()
    steps = recording.events[recording.events["mode"] == "train"]
    assert set(steps["rank"]) == {3}
    seconds = steps.groupby("phase", observed=True)["duration"].sum().to_dict()
    assert seconds == pytest.approx(
        {"step": 2 * (0.5 + 0.25 * len(inside)), "data": 1.0} | dict.fromkeys(inside, 0.5)
    )
    evaluation = recording.events[recording.events["phase"] == "evaluation"]
    assert evaluation["duration"].tolist() == pytest.approx([4.0])
    assert recording.system["value"].tolist() == [50.0]
