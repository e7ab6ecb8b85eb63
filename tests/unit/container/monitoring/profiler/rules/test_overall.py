import json
from pathlib import Path

import numpy as np
import pytest

from container.monitoring.profiler.reading import Recording
from tests.unit.container.monitoring.profiler.folders import (
    START,
    Host,
    busy_host,
    constant,
    write_berth,
    write_operators,
    write_trace,
)
from tests.unit.container.monitoring.profiler.rules.asking import _outcome, berth_outcome, outcome


def test_usage_by_node_and_metric(tmp_path: Path) -> None:
    first = Host(
        cpu=np.column_stack([np.arange(101.0), np.full(101, 50.0)]),
        io=constant(101, 2, 2),
        gpu=constant(101, 80, 2),
        gpu_memory=constant(101, 30, 2),
        memory=constant(101, 12.344),
        network=constant(101, 1000),
    )
    second = Host(name="algo-2", cpu=constant(101, 7, 2))
    found = outcome(tmp_path, "OverallSystemUsage", first, second)
    assert not found.fired
    assert found.datapoints == 101
    assert found.details["CPU"]["algo-1"] == {
        "max": 75, "p99": 74.5, "p95": 72.5, "p50": 50, "min": 25, "mean": 50,
    }  # fmt: skip
    assert found.details["CPU"]["algo-2"]["mean"] == 7
    assert found.details["GPU"] == {"algo-1": dict.fromkeys(found.details["GPU"]["algo-1"], 80)}
    assert found.details["GPU memory"]["algo-1"]["p50"] == 30
    assert found.details["CPU memory"]["algo-1"]["p95"] == 12.34
    assert found.details["Network"]["algo-1"]["max"] == 1000
    assert found.details["I/O"]["algo-1"]["max"] == 2
    assert set(found.details["names"]["algo-1"]) >= {"GPU gpu0", "GPU gpu1"}


def test_interfaces_and_disks_are_added_up(tmp_path: Path) -> None:
    root = write_berth(tmp_path, Host(cpu=constant(3, 1))) / "data" / "profiler"
    kinds = (
        ("network", "ReceiveBytesPerSecond", "Algorithm", 100),
        ("network", "TransmitBytesPerSecond", "Algorithm", 30),
        ("network", "ReceiveBytesPerSecond", "Platform", 7),
        ("i/o", "IOPS", "", 9999),
        ("i/o", "ReadThroughputInBytesPerSecond", "", 5),
        ("i/o", "WriteThroughputInBytesPerSecond", "", 6),
    )
    lines = [
        json.dumps({
            "Type": kind, "Name": name, "Dimension": dimension, "Value": value,
            "NodeId": "algo-1", "Timestamp": START + point,
        })
        for point in range(3)
        for kind, name, dimension, value in kinds
    ]  # fmt: skip
    (root / "system" / "incremental" / "more.json").write_text("\n".join(lines))
    found = _outcome(tmp_path, "OverallSystemUsage", {})
    assert found.details["Network"]["algo-1"]["p50"] == 130
    assert found.details["Disk"]["algo-1"]["p50"] == 11


def test_without_measurements_there_is_no_usage(tmp_path: Path) -> None:
    found = outcome(tmp_path, "OverallSystemUsage", Host(steps=[0.1] * 3))
    assert found.reason == "no system metrics in this job"
    assert not found.judged


def test_the_time_is_divided_into_phases(tmp_path: Path) -> None:
    host = Host(steps=[1.0] * 30, eval_steps=[0.5] * 20, cpu=constant(10, 50))
    root = write_berth(tmp_path, host) / "data" / "profiler"
    write_operators(root)
    later = START + 1 + 30 + 10
    write_trace(root, host, [("Checkpoint", "Checkpoint", later + 1, 2.0, {"mode": "other"})])
    found = _outcome(tmp_path, "OverallFrameworkMetrics", {})
    details = found.details
    assert not found.fired
    assert found.datapoints == 50
    assert details["phase_time"]["Step:ModeKeys.TRAIN"] == pytest.approx(30, abs=1e-3)
    assert details["phase"]["Step:ModeKeys.EVAL"] == pytest.approx(25, abs=1e-3)
    assert details["phase"]["others"] == pytest.approx(0, abs=1e-3)
    assert details["train"]["steps"] == 30
    assert details["train"]["phases"]["backward"]["share"] == pytest.approx(40, abs=0.01)
    assert list(details["train"]["phases"])[:2] == ["data", "copy"]
    assert sum(part["share"] for part in details["train"]["phases"].values()) == pytest.approx(100)
    assert details["outside"] == {"checkpoint": pytest.approx(2)}
    assert details["forward_backward"]["Forward pass"] == pytest.approx(100 * 10 / 22)
    assert details["CPU"] == {
        "aten::conv2d": pytest.approx(90),
        "aten::linear": pytest.approx(10),
    }
    assert details["CPU_total"]["aten::conv2d"] == pytest.approx(900_000)
    assert details["ratio"]["gpu_functions"] == pytest.approx(100 * 0.3 / 1.3)
    assert found.reason == "backward takes 40 % of a training step"
    json.dumps(found.as_json(), allow_nan=False)


def test_in_sagemakers_timeline_the_wait_for_data_belongs_to_the_step(tmp_path: Path) -> None:
    host = Host(steps=[1.0] * 30, cpu=constant(10, 50))
    phases = outcome(tmp_path, "OverallFrameworkMetrics", host).details["train"]["phases"]
    assert phases["data"]["share"] == pytest.approx(20, abs=0.1)
    assert phases["backward"]["share"] == pytest.approx(40, abs=0.1)
    assert phases["rest"]["share"] == pytest.approx(15, abs=0.1)
    assert sum(part["share"] for part in phases.values()) == pytest.approx(100)


def test_phases_of_a_gpu_are_listed_beside_those_of_its_host(tmp_path: Path) -> None:
    host = Host(steps=[1.0] * 10, phases={"forward": 0.1, "backward": 0.1}, cpu=constant(9, 1))
    root = write_berth(tmp_path, host) / "data" / "profiler"
    begin = START + 1
    spans = [
        ("gpu_functions-dev:0", "Forward", begin + step, 0.6, {"step_num": step, "mode": "train"})
        for step in range(10)
    ]
    write_trace(root, host, spans)
    recording = Recording.read(tmp_path)
    assert len(recording.on_device) == 10
    details = _outcome(tmp_path, "OverallFrameworkMetrics", {}).details
    assert details["train"]["phases"]["forward"]["share"] == pytest.approx(10, abs=0.1)
    assert details["train_on_device"]["phases"]["forward"]["share"] == pytest.approx(60, abs=0.1)
    assert "GPU" not in details


def test_without_steps_there_is_no_breakdown(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "OverallFrameworkMetrics", Host(cpu=constant(9, 1)))
    assert not found.judged
    assert found.details["train"] == {}


def test_a_healthy_job_with_everything_recorded(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "OverallSystemUsage", busy_host(points=50, steps=20))
    assert found.reason.startswith("processors used on average: algo-1 6")
