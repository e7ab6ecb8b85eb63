import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from container.monitoring.profiler.rules.gpu import jensen_shannon
from tests.unit.container.monitoring.profiler.folders import START, Host, constant
from tests.unit.container.monitoring.profiler.rules.asking import outcome


def host(gpu: Any, memory: Any = None, **more: Any) -> Any:
    return Host(cpu=constant(len(gpu), 50), gpu=gpu, gpu_memory=memory, **more)


def low(folder: Any, gpu: Any, **parameters: Any) -> Any:
    return outcome(folder, "LowGPUUtilization", host(np.asarray(gpu, float)), **parameters)


def test_a_gpu_with_low_utilisation_fires(tmp_path: Path) -> None:
    found = low(tmp_path, constant(1100, 40))
    assert found.fired
    assert found.datapoints == 1100
    assert found.details["algo-1"]["gpu0"]["gpu_95"] == 40
    assert found.details["algo-1"]["gpu0"]["issue"] == "under-used"
    assert "gpu0 on algo-1 under-used" in found.reason


def test_a_gpu_that_works_in_bursts_fires(tmp_path: Path) -> None:
    found = low(tmp_path, np.tile([95.0, 95, 95, 5], 300).reshape(-1, 1))
    assert found.details["algo-1"]["gpu0"]["issue"] == "fluctuating"
    assert found.details["algo-1"]["gpu0"]["gpu_5"] == 5
    assert found.fired


def test_a_busy_gpu_does_not_fire(tmp_path: Path) -> None:
    found = low(tmp_path, np.tile([80.0, 95], 600).reshape(-1, 1))
    assert not found.fired
    assert found.judged
    assert found.moments == ()
    assert "every GPU is busy" in found.reason


def test_it_fires_at_every_look_after_the_patience(tmp_path: Path) -> None:
    # looks every minute, which has 120 points; 240 are needed
    found = low(tmp_path, constant(480, 40), patience=240, window=100)
    assert found.triggered == 3
    assert found.moments == tuple(START + 0.5 * (points - 1) for points in (240, 360, 480))


def test_only_the_last_window_counts(tmp_path: Path) -> None:
    gpu = np.concatenate([constant(300, 10), constant(300, 90)])
    found = low(tmp_path, gpu, patience=240, window=100)
    assert found.triggered == 1
    assert found.details["algo-1"]["gpu0"]["gpu_95"] == 90
    assert "not at the end" in found.reason


@pytest.mark.parametrize(("points", "judged"), [(99, False), (100, True), (101, True)])
def test_patience_is_the_number_of_points_to_wait_for(
    tmp_path: Path, points: int, judged: bool
) -> None:
    found = low(tmp_path, constant(points, 40), patience=100)
    assert found.judged is judged
    assert found.fired is judged
    if not judged:
        assert found.reason == "not enough data: 99 of 100 points"
        assert (found.datapoints, found.needed) == (99, 100)


@pytest.mark.parametrize("rule", ["LowGPUUtilization", "GPUMemoryIncrease", "LoadBalancing"])
def test_a_job_without_gpus(tmp_path: Path, rule: str) -> None:
    found = outcome(tmp_path, rule, Host(cpu=constant(1100, 99)))
    assert found.reason == "no GPU metrics in this job"
    assert not found.judged
    assert not found.fired
    assert found.status()["RuleEvaluationStatus"] == "NoIssuesFound"


def test_only_the_idle_one_of_several_is_named(tmp_path: Path) -> None:
    gpu = np.column_stack([np.full(200, 90.0), np.full(200, 3.0)])
    found = low(tmp_path, gpu, patience=100, window=100)
    assert found.reason.startswith("gpu1 on algo-1 under-used")
    assert found.details["algo-1"]["gpu0"]["issue"] == ""


def memory(folder: Any, values: Any, **parameters: Any) -> Any:
    values = np.asarray(values, float).reshape(-1, 1)
    return outcome(
        folder, "GPUMemoryIncrease", host(constant(len(values), 90), values), **parameters
    )


def test_a_jump_in_memory_fires(tmp_path: Path) -> None:
    found = memory(tmp_path, [20] * 150 + [40] * 50, patience=100)
    assert found.fired
    details = found.details["algo-1"]["gpu0"]
    assert details["increase"] == pytest.approx(20)
    assert details["gpu_max"] == 40
    # the means of 10 points differ by more than 5 from 3 new points on until 3 old ones are left
    assert found.violations == found.triggered == details["violations"] == 15
    assert found.moments[0] == START + 152 * 0.5


def test_slowly_growing_or_falling_memory_does_not_fire(tmp_path: Path) -> None:
    assert not memory(tmp_path / "slow", np.linspace(20, 60, 200), patience=100).fired
    assert not memory(tmp_path / "falls", [60] * 150 + [20] * 50, patience=100).fired


def test_an_increase_equal_to_the_limit_does_not_fire(tmp_path: Path) -> None:
    assert not memory(tmp_path / "at", [20] * 150 + [25] * 50, patience=100).fired
    assert memory(tmp_path / "over", [20] * 150 + [25.1] * 50, patience=100).fired


def test_a_jump_in_memory_before_the_end_of_the_patience_does_not_fire(tmp_path: Path) -> None:
    assert not memory(tmp_path, [20] * 50 + [60] * 150, patience=100).fired


def test_the_memory_rule_needs_two_windows(tmp_path: Path) -> None:
    found = memory(tmp_path, [20] * 15, patience=1, window=10)
    assert found.reason == "not enough data: 15 of 20 points"


def test_gpus_that_work_unequally_fire(tmp_path: Path) -> None:
    gpu = np.column_stack([np.full(1100, 90.0), np.full(1100, 20.0)])
    found = outcome(tmp_path, "LoadBalancing", host(gpu))
    assert found.fired
    assert found.details["algo-1"]["distances"]["gpu0"]["gpu1"] == pytest.approx(
        math.sqrt(math.log(2))
    )
    workloads = found.details["algo-1"]["workloads"]
    assert len(workloads["gpu0"]) == 50
    assert workloads["gpu0"][45] == workloads["gpu1"][10] == 1100
    json.dumps(found.details, allow_nan=False)


def test_gpus_that_work_equally_do_not_fire(tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    found = outcome(tmp_path, "LoadBalancing", host(dice.uniform(60, 100, (1100, 3))))
    assert not found.fired
    assert found.judged


def test_gpus_of_different_hosts_are_compared(tmp_path: Path) -> None:
    found = outcome(
        tmp_path,
        "LoadBalancing",
        host(constant(1100, 90)),
        host(constant(1100, 20), name="algo-2"),
    )
    assert found.fired
    assert found.details["algo-1"]["distances"]["gpu0"]["algo-2/gpu0"] > 0.8
    assert "gpu0 on algo-1 and gpu0 on algo-2" in found.reason


def test_full_utilisation_is_included(tmp_path: Path) -> None:
    gpu = np.column_stack([np.full(200, 100.0), np.full(200, 99.0)])
    found = outcome(tmp_path, "LoadBalancing", host(gpu), patience=100)
    assert found.details["algo-1"]["workloads"]["gpu0"][49] == 200
    assert not found.fired


def test_a_single_gpu_has_nothing_to_balance(tmp_path: Path) -> None:
    found = outcome(tmp_path, "LoadBalancing", host(constant(1100, 50)))
    assert not found.judged
    assert found.reason == "a single GPU has no load to balance"


COUNTS = arrays(np.float64, (3, 8), elements=st.integers(0, 9)).map(lambda found: found + 1e-3)


@given(COUNTS, COUNTS, st.floats(0.5, 100))
def test_the_distance_is_symmetric_and_bounded(one: Any, other: Any, factor: Any) -> None:
    distance = jensen_shannon(one, other)
    assert (distance >= 0).all()
    assert (distance <= math.sqrt(math.log(2)) + 1e-9).all()
    assert np.allclose(distance, jensen_shannon(other, one))
    assert np.allclose(jensen_shannon(one, one * factor), 0, atol=1e-6)


def test_the_distance_of_known_distributions() -> None:
    # half of the mass is shared: (1/2)(KL(p|m) + KL(q|m)) = (1/2) ln 2
    distance = jensen_shannon(np.array([[1.0, 1, 0]]), np.array([[0.0, 1, 1]]))
    assert distance[0] == pytest.approx(math.sqrt(math.log(2) / 2))
