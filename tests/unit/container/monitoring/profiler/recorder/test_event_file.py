import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from container.monitoring.profiler.recorder.event_file import TimelineEvent, TimelineFile, recover
from tests.unit.container.monitoring.profiler.clocks import Clock
from tests.unit.container.monitoring.profiler.smdebug_readers import framework_events

HOUR = 1_790_000_000 // 3600 * 3600
START = HOUR * 10**9


def event(step: int, start: float, end: float, name: str = "Forward") -> TimelineEvent:
    return TimelineEvent(name, name, "train", step, round(start * 1e9), round(end * 1e9))


def file(root: Path, clock: Clock, **options: float) -> TimelineFile:
    def wall() -> int:
        return START + clock()

    return TimelineFile(root, "algo-1", rank=3, clock=clock, wall=wall, **options)  # type: ignore[arg-type]


def finished(root: Path) -> list[Path]:
    return sorted((root / "framework" / "pevents").rglob("*.json"))


def test_smdebug_reads_a_finished_file(tmp_path: Path) -> None:
    events = file(tmp_path, Clock())
    events.write([event(5, 1, 1.25), event(6, 2, 2.5, "Step:ModeKeys.TRAIN")])
    events.close()
    events.close()
    found = framework_events(tmp_path)
    assert [(e.event_phase, e.event_name, e.start_time, e.duration) for e in found] == [
        ("Forward", "Forward", START // 1000 + 1_000_000, 250_000),
        ("Step:ModeKeys.TRAIN", "Step:ModeKeys.TRAIN", START // 1000 + 2_000_000, 500_000),
    ]
    assert found[0].event_args == {"step_num": 5, "mode": "train", "rank": 3}
    assert found[0].node_id == f"algo-1-{os.getpid()}"


def test_a_file_name_has_the_end_time_process_and_host(tmp_path: Path) -> None:
    events = file(tmp_path, Clock())
    events.write([event(0, 3, 4), event(0, 1, 2)])
    assert not finished(tmp_path)
    events.close()
    (path,) = finished(tmp_path)
    hour = time.strftime("%Y%m%d%H", time.gmtime(HOUR))
    name = f"{START // 1000 + 4_000_000}_{os.getpid()}-algo-1_pythontimeline.json"
    assert path.relative_to(tmp_path) == Path("framework/pevents", hour, name)
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_first_entry_has_the_start_time(tmp_path: Path) -> None:
    events = file(tmp_path, Clock())
    events.write([event(0, 0, 1)])
    events.close()
    first = json.loads(finished(tmp_path)[0].read_text())[0]
    assert first["args"] == {"start_time_since_epoch_in_micros": START // 1000}


def test_the_open_file_is_a_valid_array_after_every_write(tmp_path: Path) -> None:
    events = file(tmp_path, Clock())
    for step in range(5):
        events.write([event(step, step, step + 1)])
        found = json.loads(events.path.read_text())
        assert [e["args"]["step_num"] for e in found if e["ph"] == "X"] == list(range(step + 1))
    events.close()


@pytest.mark.parametrize("seconds", [61.0, 3601.0])
def test_a_file_is_closed_after_some_time(tmp_path: Path, seconds: float) -> None:
    clock = Clock()
    events = file(tmp_path, clock)
    events.write([event(0, 0, 1)])
    clock.advance(59)
    events.write([event(1, 58, 59)])
    assert not finished(tmp_path)
    clock.advance(seconds)
    events.write([])
    assert len(finished(tmp_path)) == 1
    events.write([event(2, 59 + seconds, 60 + seconds)])
    events.close()
    assert len(finished(tmp_path)) == 2
    assert [e.event_args["step_num"] for e in framework_events(tmp_path)] == [0, 1, 2]


def test_a_file_is_closed_at_the_end_of_its_hour(tmp_path: Path) -> None:
    clock = Clock(round(3599.5e9))
    events = file(tmp_path, clock)
    events.write([event(0, 3599, 3599.5)])
    clock.advance(1)
    events.write([event(1, 3600, 3600.5)])
    events.close()
    hours = [path.parent.name for path in finished(tmp_path)]
    assert hours == [time.strftime("%Y%m%d%H", time.gmtime(HOUR + h)) for h in (0, 3600)]


def test_a_large_file_is_closed(tmp_path: Path) -> None:
    events = file(tmp_path, Clock(), rotate_bytes=1000)
    for step in range(30):
        events.write([event(step, step, step + 1)])
    events.close()
    found = finished(tmp_path)
    assert len(found) > 1
    assert max(path.stat().st_size for path in found) < 1300
    assert [e.event_args["step_num"] for e in framework_events(tmp_path)] == list(range(30))


def test_files_that_end_at_once_do_not_replace_each_other(tmp_path: Path) -> None:
    for _ in range(2):
        events = file(tmp_path, Clock())
        events.write([event(0, 0, 1)])
        events.close()
    assert len(finished(tmp_path)) == 2


def test_a_changed_clock_takes_effect_in_the_next_file(tmp_path: Path) -> None:
    clock, set_by = Clock(), [0]
    events = TimelineFile(
        tmp_path, "algo-1", rank=0, clock=clock, wall=lambda: START + clock() + set_by[0]
    )
    events.write([event(0, 0, 1)])
    set_by[0] = -(10**9) * 30
    events.write([event(1, 1, 2)])
    clock.advance(100)
    events.write([event(2, 99, 100)])
    events.close()
    found = sorted(framework_events(tmp_path), key=lambda e: e.event_args["step_num"])
    starts = [e.start_time / 1e6 - HOUR for e in found]
    assert starts == pytest.approx([0, 1, 69])
    assert [e.duration for e in found] == [10**6] * 3


def test_a_full_disk_keeps_earlier_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = file(tmp_path, Clock())
    events.write([event(0, 0, 1)])
    real, calls = os.pwrite, iter(range(9))

    def full(handle: int, data: bytes, offset: int) -> int:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")
        return real(handle, data[:20], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        events.write([event(1, 1, 2)])
    found = json.loads(events.path.read_text())
    assert [e["args"]["step_num"] for e in found if e["ph"] == "X"] == [0]


KILLED = """
import os, sys, signal
from pathlib import Path
from container.monitoring.profiler.recorder.event_file import TimelineEvent, TimelineFile
events = TimelineFile(Path(sys.argv[1]), "algo-1", rank=0)
forward = [TimelineEvent("Forward", "Forward", "train", at, at, at + 1000) for at in range(3)]
events.write(forward)
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_keeps_its_events(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not finished(tmp_path)
    recover(tmp_path, "algo-1")
    assert [e.event_args["step_num"] for e in framework_events(tmp_path)] == [0, 1, 2]
    assert f"_{done.stdout.strip()}-algo-1_" in finished(tmp_path)[0].name


def leave_behind(root: Path, process: int, host: str = "algo-1") -> Path:
    """Write a file of a process, truncated as by a kill in the middle of a write."""
    events = file(root, Clock())
    events.write([event(step, step, step + 1) for step in range(4)])
    path = events.path.with_name(f"{process}-{host}_pythontimeline.json.tmp")
    text = events.path.read_bytes()
    events.path.unlink()
    path.write_bytes(text[:-30])
    return path


NOBODY = 2**22 + 1
"""More than the largest process number Linux gives."""


def test_a_truncated_file_loses_its_last_line(tmp_path: Path) -> None:
    leave_behind(tmp_path, NOBODY)
    recover(tmp_path, "algo-1")
    assert [e.event_args["step_num"] for e in framework_events(tmp_path)] == [0, 1, 2]


def test_a_reused_pid_is_not_taken_for_the_dead_process(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, os.getpid())
    recover(tmp_path, "algo-1")
    assert not path.exists()
    assert finished(tmp_path)


@pytest.mark.parametrize(("process", "host"), [(os.getppid(), "algo-1"), (NOBODY, "algo-2")])
def test_files_of_running_processes_and_other_hosts_are_kept(
    tmp_path: Path, process: int, host: str
) -> None:
    path = leave_behind(tmp_path, process, host)
    recover(tmp_path, "algo-1")
    assert path.exists()


def test_a_file_without_events_is_removed(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, NOBODY)
    path.write_text('[\n{"name": "process_na')
    recover(tmp_path, "algo-1")
    assert not path.exists()
    assert not finished(tmp_path)
