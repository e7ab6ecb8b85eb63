import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.container.monitoring.profiler.folders import START, Host, constant
from tests.unit.container.monitoring.profiler.rules.asking import berth_outcome, outcome


def alternating(points: Any, share: Any, high: Any, low: Any, names: int = 1) -> Any:
    """Return `high` at the given share of the points, spread evenly, and `low` elsewhere."""
    at = np.floor(np.arange(1, points + 1) * share) > np.floor(np.arange(points) * share)
    return np.where(at[:, None], high, low) * np.ones((1, names))


def bound(points: Any, share: Any, **more: Any) -> Any:
    """Return a host whose GPU idles while one of its four cores is busy."""
    cpu = constant(points, 20, 4)
    cpu[:, 2:3] = alternating(points, share, 99, 20)
    return Host(cpu=cpu, io=constant(points, 1, 4), gpu=alternating(points, share, 2, 95), **more)


def waiting(points: Any, share: Any) -> Any:
    """Return a host whose GPU idles while one of its cores waits for a disk."""
    io = constant(points, 1, 4)
    io[:, :1] = alternating(points, share, 80, 1)
    return Host(cpu=constant(points, 20, 4), io=io, gpu=alternating(points, share, 2, 95))


def test_a_gpu_that_waits_for_a_core_fires(tmp_path: Path) -> None:
    found = outcome(tmp_path, "CPUBottleneck", bound(1200, 0.6))
    assert found.fired
    assert found.datapoints == 1200
    assert found.violations == 720
    assert found.details["low_gpu_utilization"] == 720
    assert found.details["shares"] == {"algo-1": pytest.approx(60)}
    assert next(iter(found.details["bottlenecks"].values())) == {"GPUs": 1, "CPUs": 1}
    # it looks after 1,080 and 1,200 points
    assert found.moments == (START + 1079 * 0.5, START + 1199 * 0.5)
    assert found.triggered == 2


def test_a_bottleneck_less_than_half_of_the_time_does_not_fire(tmp_path: Path) -> None:
    found = outcome(tmp_path, "CPUBottleneck", bound(1200, 0.4))
    assert not found.fired
    assert found.violations == 480
    assert "at 40.0 % of the points on algo-1" in found.reason


@pytest.mark.parametrize(("threshold", "fires"), [(50, False), (49.9, True)])
def test_the_share_must_exceed_the_threshold(tmp_path: Path, threshold: float, fires: bool) -> None:
    found = outcome(tmp_path, "CPUBottleneck", bound(200, 0.5), patience=200, threshold=threshold)
    assert found.fired is fires


def test_values_equal_to_the_thresholds_are_not_a_bottleneck(tmp_path: Path) -> None:
    on = Host(cpu=constant(200, 90), gpu=constant(200, 9))
    assert outcome(tmp_path / "cpu", "CPUBottleneck", on, patience=100).violations == 0
    on = Host(cpu=constant(200, 91), gpu=constant(200, 10))
    assert outcome(tmp_path / "gpu", "CPUBottleneck", on, patience=100).violations == 0


def test_busy_cores_with_a_busy_gpu_are_not_a_bottleneck(tmp_path: Path) -> None:
    found = outcome(tmp_path, "CPUBottleneck", Host(cpu=constant(1200, 99), gpu=constant(1200, 95)))
    assert not found.fired
    assert found.violations == 0
    assert found.details["bottlenecks"] == {}


def test_a_gpu_that_waits_for_a_disk_fires_the_other_rule(tmp_path: Path) -> None:
    found = outcome(tmp_path / "io", "IOBottleneck", waiting(1200, 0.7))
    assert found.fired
    assert found.violations == 840
    assert "waited for data" in found.reason
    assert not outcome(tmp_path / "cpu", "CPUBottleneck", waiting(1200, 0.7)).fired
    assert not outcome(tmp_path / "less", "IOBottleneck", waiting(1200, 0.3)).fired


@pytest.mark.parametrize("rule", ["CPUBottleneck", "IOBottleneck"])
def test_too_few_points_are_not_judged(tmp_path: Path, rule: str) -> None:
    short = outcome(tmp_path / "short", rule, bound(120, 0.9))
    assert short.reason == "not enough data: 120 of 1000 points"
    assert not short.judged
    assert outcome(tmp_path / "cpu", rule, Host(cpu=constant(1200, 99))).reason == (
        "no GPU metrics in this job"
    )


def test_a_gpu_without_io_wait_metrics(tmp_path: Path) -> None:
    found = outcome(tmp_path, "IOBottleneck", Host(cpu=constant(200, 9), gpu=constant(200, 1)))
    assert found.reason == "no I/O wait metrics in this job"


def test_a_bottleneck_on_one_of_two_hosts_fires(tmp_path: Path) -> None:
    fine = Host(name="algo-2", cpu=constant(1200, 20), gpu=constant(1200, 95))
    found = outcome(tmp_path, "CPUBottleneck", bound(1200, 0.6), fine)
    assert found.fired
    assert found.datapoints == 1200
    assert found.details["shares"]["algo-2"] == 0


def test_the_phases_of_training_during_a_bottleneck_are_listed(tmp_path: Path) -> None:
    # the GPU idles in the first half of every second, while the step waits for data
    points = 240
    half = (np.arange(points) % 2 == 0)[:, None]
    idle = Host(
        cpu=np.where(half, 99.0, 10.0),
        gpu=np.where(half, 0.0, 95.0),
        steps=[1.0] * 100,
        before=0.0,
        phases={"data": 0.5, "forward": 0.5},
    )
    found = berth_outcome(tmp_path, "CPUBottleneck", idle, patience=100, threshold=40)
    assert found.fired
    assert found.details["general"] == {"data": 100}


def test_bottlenecks_are_listed_longest_first(tmp_path: Path) -> None:
    cpu = constant(400, 10)
    cpu[100:150] = 99
    cpu[200:300] = 99
    host = Host(cpu=cpu, gpu=constant(400, 0))
    found = outcome(tmp_path, "CPUBottleneck", host, patience=100)
    assert found.details["periods"] == [
        ["algo-1", START + 100, START + 149.5],
        ["algo-1", START + 50, START + 74.5],
    ]
    json.dumps(found.as_json(), allow_nan=False)


def test_the_size_of_the_details_is_limited(tmp_path: Path) -> None:
    found = outcome(tmp_path, "CPUBottleneck", bound(3000, 0.9, interval=0.1))
    assert found.violations == 2700
    assert len(found.details["bottlenecks"]) == 1000
    assert len(found.details["periods"]) <= 200
