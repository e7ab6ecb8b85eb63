import json
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.reading.system import read_system
from container.monitoring.profiler.reading.text import RecordingWarnings

START = 1_700_000_040.0


def sample(time: Any = START, value: Any = 5.0, **more: Any) -> Any:
    return {
        "Type": "cpu", "Name": "cpu0", "Dimension": "CPUUtilization", "Value": value,
        "NodeId": "algo-1", "Timestamp": time,
    } | more  # fmt: skip


def read(tmp_path: Path, *texts: Any) -> Any:
    paths = []
    for position, text in enumerate(texts):
        path = tmp_path / f"{position}.algo-1.json"
        path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
        paths.append(path)
    problems = RecordingWarnings()
    return read_system(paths, lambda path: path.name, problems), problems.lines()


def lines(*samples: Any) -> Any:
    return "".join(json.dumps(each) + "\n" for each in samples)


def test_samples_by_time(tmp_path: Path) -> None:
    table, problems = read(tmp_path, lines(sample(START + 1, 2)), lines(sample(START, 1)))
    assert table["value"].tolist() == [1, 2]
    assert table.columns.tolist() == ["time", "node", "kind", "name", "dimension", "value"]
    assert problems == ()


def test_a_file_truncated_within_a_line(tmp_path: Path) -> None:
    text = lines(sample(), sample(START + 1))
    table, problems = read(tmp_path, text[:-20])
    assert len(table) == 1
    assert problems == ("0.algo-1.json: cut short; its last line was left out",)


def test_a_complete_last_line_without_a_newline_is_read(tmp_path: Path) -> None:
    table, problems = read(tmp_path, lines(sample(), sample(START + 1))[:-1])
    assert len(table) == 2
    assert problems == ()


@pytest.mark.parametrize(
    "bad",
    [
        "garbage", "[]", "7", "null", '{"Type":"cpu"}',
        json.dumps(sample(value="high")), json.dumps(sample(value=None)),
        json.dumps(sample(value=True)), json.dumps(sample(value=float("nan"))),
        json.dumps(sample(time=float("inf"))), json.dumps(sample(time=-5)),
        json.dumps(sample(time=0)), json.dumps(sample(time=1e18)),
        json.dumps(sample(NodeId="")), json.dumps(sample(NodeId=3)),
        json.dumps(sample(Name=["cpu0"])), '{"Value": 1e999}', "[" * 100_000,
        json.dumps(sample()).replace("5.0", "1" + "0" * 400),
    ],
)  # fmt: skip
def test_lines_that_are_not_samples_are_left_out_and_counted(tmp_path: Path, bad: Any) -> None:
    table, problems = read(tmp_path, lines(sample()) + bad + "\n" + lines(sample(START + 1)))
    assert table["value"].tolist() == [5, 5]
    (problem,) = problems
    assert problem == "0.algo-1.json: 1 of 3 lines are not system metrics and were left out"


def test_numbers_written_as_text_are_read(tmp_path: Path) -> None:
    table, problems = read(tmp_path, lines(sample(value="5.5"), sample(time=str(START + 1))))
    assert table["value"].tolist() == [5.5, 5]
    assert problems == ()


def test_memory_needs_no_dimension_and_a_gpu_no_name(tmp_path: Path) -> None:
    memory = sample(Type="memory", Name="MemoryUsedPercent")
    del memory["Dimension"]
    gpu = sample(Type="GPU", Dimension="GPUUtilization", Name=None)
    table, problems = read(tmp_path, lines(memory, gpu))
    assert table["name"].tolist() == ["MemoryUsedPercent", ""]
    assert table["kind"].tolist() == ["memory", "gpu"]
    assert problems == ()


def test_io_samples_without_a_dimension_are_of_a_disk(tmp_path: Path) -> None:
    table, _ = read(tmp_path, lines(sample(Type="i/o", Name="IOPS", Dimension="")))
    assert table["kind"].tolist() == ["disk"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"), ("\n \n", "is empty"), ("<html>\n", "holds no system metrics"),
        (b"\xff\xfe\x00", "holds no system metrics"), ("[]", "holds no system metrics"),
    ],
)  # fmt: skip
def test_files_in_other_formats(tmp_path: Path, text: bytes | str, problem: str) -> None:
    table, problems = read(tmp_path, text)
    assert table.empty
    assert problems == (f"0.algo-1.json: {problem}",)


def test_not_all_of_many_invalid_files_are_named(tmp_path: Path) -> None:
    _, problems = read(tmp_path, *["x\n"] * 10)
    assert len(problems) == 4
    assert problems[-1] == "7 more files: holds no system metrics"


def test_duplicate_samples_count_once(tmp_path: Path) -> None:
    table, problems = read(tmp_path, lines(sample(), sample(START + 1)), lines(sample()))
    assert len(table) == 2
    assert problems == ("1 samples were recorded twice; one of each is used",)


def test_a_clock_that_jumps_back(tmp_path: Path) -> None:
    times = [START, START + 1, START - 3600, START - 3599]
    table, problems = read(tmp_path, lines(*[sample(time) for time in times]))
    assert table["time"].tolist() == sorted(times)
    assert problems[0] == (
        "algo-1: the clock went back by 3,601.0 s at 2023-11-14 22:14:01 UTC; "
        "its samples are used in order of time"
    )


def test_a_clock_that_jumps_ahead(tmp_path: Path) -> None:
    times = [START, START + 1, START + 3600, START + 3601]
    _, problems = read(tmp_path, lines(*[sample(time) for time in times]))
    assert problems == ("algo-1: no system metrics for 3,599 s after 2023-11-14 22:14:01 UTC",)


def test_samples_slightly_out_of_order_are_not_a_clock_jump(tmp_path: Path) -> None:
    times = [START + 0.01, START, START + 0.51, START + 0.5]
    _, problems = read(tmp_path, lines(*[sample(time) for time in times]))
    assert problems == ()


def test_names_with_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    table, _ = read(tmp_path, lines(sample(NodeId="algo\ud800\n1"), sample(NodeId="algo\ud801\t1")))
    assert table["node"].tolist() == [
        "algo??1"
    ]  # the names are now equal, so it is the same sample
    table["node"].cat.categories[0].encode()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    problems = RecordingWarnings()
    table = read_system([tmp_path / "gone.json"], lambda path: path.name, problems)
    assert table.empty
    assert problems.lines() == ("gone.json: could not be read (No such file or directory)",)
