import json
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.phases import PHASES, STEPS
from container.monitoring.profiler.reading.events import read_events
from container.monitoring.profiler.reading.text import RecordingWarnings
from container.monitoring.profiler.recorder.event_file import TimelineEvent, TimelineFile

BASE = 1_700_000_040_000_000
NAME = f"{BASE + 60_000_000}_7-algo-1_pythontimeline.json"


def meta(**args: Any) -> Any:
    return {"name": "process_name", "ph": "M", "pid": args.pop("pid", 0), "args": args}


START = meta(start_time_since_epoch_in_micros=BASE)


def event(
    name: Any = "Step:ModeKeys.TRAIN", ts: Any = 0, dur: Any = 1000, pid: Any = 0, **args: Any
) -> Any:
    return {"name": name, "ph": "X", "pid": pid, "ts": ts, "dur": dur, "args": args}


def read(tmp_path: Path, found: Any, name: Any = NAME) -> Any:
    path = tmp_path / name
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    problems = RecordingWarnings()
    return read_events([path], lambda _: "file", problems), problems.lines()


def test_an_event(tmp_path: Path) -> None:
    found, problems = read(tmp_path, [START, event(ts=500_000, dur=250_000, step_num="3")])
    row = found.table.iloc[0]
    assert row.to_dict() == {
        "node": "algo-1", "pid": 7, "rank": 0, "phase": "step", "name": "Step:ModeKeys.TRAIN",
        "mode": "train", "step": 3, "start": BASE / 1e6 + 0.5, "duration": 0.25,
    }  # fmt: skip
    assert problems == ()


def test_phases_have_the_names_of_their_processes(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        [START, meta(pid=4, name="Forward"), meta(pid=5, name="DataLoaderIter"),
         event("ResNet_0", pid=4), event("DataLoaderIter::GetNext", pid=5)],
    )  # fmt: skip
    assert sorted(found.table["phase"]) == ["data", "forward"]
    assert set(found.table["name"]) == {"ResNet_0", "DataLoaderIter::GetNext"}


def test_an_event_within_a_step_has_its_mode_and_number(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        [START, event("Step:ModeKeys.EVAL", ts=1000, dur=100, step_num=4),
         event("Forward", ts=1010, dur=20), event("Forward", ts=5000, dur=20)],
    )  # fmt: skip
    inside, outside = (
        rows for _, rows in found.table[found.table["phase"] == "forward"].iterrows()
    )
    assert (inside["mode"], inside["step"]) == ("eval", 4)
    assert (outside["mode"], outside["step"]) == ("other", -1)


def test_a_wait_before_a_step_belongs_to_that_step(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        [START, event("DataLoaderIter", ts=0, dur=900), event(ts=1000, dur=100, step_num=4),
         event("DataLoaderIter", ts=1200, dur=900)],
    )  # fmt: skip
    waits = found.table[found.table["phase"] == "data"]
    assert waits["mode"].tolist() == ["train", "other"]
    assert waits["step"].tolist() == [4, -1]


def test_an_events_own_rank_mode_and_step_take_precedence(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        [START, event(ts=0, dur=1000, step_num=1, mode="train", rank=5),
         event("Checkpoint", ts=100, dur=10, step_num=9, mode="other", rank=5)],
    )  # fmt: skip
    assert found.table["rank"].tolist() == [5, 5]
    assert found.table["mode"].tolist() == ["train", "other"]
    assert found.table["step"].tolist() == [1, 9]


def test_operators_are_summed(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        [START, meta(pid=1, name="cpu_functions"), meta(pid=2, name="gpu_functions-dev:0"),
         event("aten::add", pid=1, dur=10), event("aten::add", pid=1, dur=20),
         event("sgemm", pid=2, dur=7)],
    )  # fmt: skip
    assert found.table.empty
    assert found.operators["calls"].tolist() == [2, 1]
    assert found.operators["device"].tolist() == ["cpu", "cuda"]
    assert found.operators["total_time"].tolist() == pytest.approx([30e-6, 7e-6])


def test_phase_times_of_a_gpu_are_separate(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        [START, meta(pid=2, name="gpu_functions-dev:0"), event(ts=0, dur=100, step_num=0),
         event("Backward(post-forward)", pid=2, ts=10, dur=50)],
    )  # fmt: skip
    assert found.table["phase"].tolist() == ["step"]
    assert found.on_device["phase"].tolist() == ["backward"]
    assert found.on_device["mode"].tolist() == ["train"]


def test_the_data_loaders_settings_are_read(tmp_path: Path) -> None:
    loader = event("_MultiProcessingDataLoaderIter.__init__", pid=3, num_workers=4, pin_memory=True)
    found, _ = read(tmp_path, [START, meta(pid=3, name="DataLoaderIterInitialize"), loader])
    assert found.loader == {"num_workers": 4, "pin_memory": True}


def test_a_file_truncated_within_an_event(tmp_path: Path) -> None:
    text = json.dumps([START, *[event(ts=ts) for ts in range(50)]])
    found, problems = read(tmp_path, text[:-70])
    assert len(found.table) == 49
    assert problems == ("file: cut short or damaged; the 50 events that could be read are used",)


def test_an_unfinished_file_of_smdebug_is_complete(tmp_path: Path) -> None:
    text = "[\n" + "".join(json.dumps(each) + ",\n" for each in [START, event(), event(ts=9)])
    found, problems = read(tmp_path, text, "7-algo-1_pythontimeline.json.tmp")
    assert len(found.table) == 2
    assert found.table["pid"].tolist() == [7, 7]
    assert problems == ()


def test_noise_between_events(tmp_path: Path) -> None:
    text = json.dumps([START, event(), event(ts=9)])
    middle = text.index('{"name": "Step')
    found, problems = read(tmp_path, text[:middle] + '\x00#{"{{,' + text[middle:])
    assert len(found.table) == 2
    assert len(problems) == 1


@pytest.mark.parametrize(
    "bad",
    [
        event(ts="soon"), event(dur=None), event(dur=-1), event(ts=float("nan")),
        event(name=7), {"ph": "X"}, event(step_num="first"), {}, event(rank=[]), event(pid={}),
        event(ts=1e300), event(ts=-1e300), event(step_num=10**30),
    ],
)  # fmt: skip
def test_events_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path, bad: Any) -> None:
    found, problems = read(tmp_path, [START, event(), bad, event(ts=5000)])
    assert len(found.table) == 2
    assert problems == ("file: 1 of its events could not be read and were left out",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"), ("7", "holds no events"), ("<html>", "holds no events"),
        ('{"a": 1}', "holds no events"), ("[" * 100_000, "holds no events"),
        ('[1, "x"]', "2 of its entries are no events and were left out"),
        ('{"a":' * 3000, "holds no events"),
    ],
)  # fmt: skip
def test_files_in_other_formats(tmp_path: Path, text: Any, problem: str) -> None:
    found, problems = read(tmp_path, text)
    assert found.table.empty
    assert problems == (f"file: {problem}",)


def test_a_trace_within_an_object(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"traceEvents": [START, event()]})
    assert len(found.table) == 1


def test_without_a_start_time_the_file_name_gives_it(tmp_path: Path) -> None:
    found, problems = read(tmp_path, [event(ts=0, dur=10_000_000), event(ts=20_000_000, dur=0)])
    assert found.table["start"].tolist() == [BASE / 1e6 + 40, BASE / 1e6 + 60]
    assert problems == ()


def test_unix_times_need_no_start_time(tmp_path: Path) -> None:
    found, _ = read(tmp_path, [event(ts=BASE)], "mine.json")
    assert found.table["start"].tolist() == [BASE / 1e6]


def test_without_any_time_events_are_left_out(tmp_path: Path) -> None:
    found, problems = read(tmp_path, [event(ts=5)], "mine.json")
    assert found.table.empty
    assert problems == ("file: no start time in it nor in its name; its events were left out",)


def test_duplicate_events_count_once(tmp_path: Path) -> None:
    found, problems = read(tmp_path, [START, event(), event()])
    assert len(found.table) == 1
    assert problems == ("1 events were recorded twice; one of each is used",)


def test_every_event_written_by_berth_is_known(tmp_path: Path) -> None:
    file = TimelineFile(tmp_path, "algo-3", rank=2, clock=lambda: 10**9, wall=lambda: BASE * 1000)
    phases = [
        TimelineEvent(name, name, "train", 5, 10**9 + at * 1000, 10**9 + (at + 1) * 1000)
        for at, name in enumerate(PHASES.values())
    ]
    step = STEPS["train"]
    file.write([*phases, TimelineEvent(step, step, "train", 5, 10**9, 10**9 + 10**6)])
    file.close()
    (path,) = tmp_path.rglob("*.json")
    found = read_events([path], str, RecordingWarnings())
    assert sorted(found.table["phase"]) == sorted([*PHASES, "step"])
    assert set(found.table["rank"]) == {2}
    assert set(found.table["node"]) == {"algo-3"}
    assert set(found.table["step"]) == {5}
    assert found.table["start"].min() == pytest.approx(BASE / 1e6)
