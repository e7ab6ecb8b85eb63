from pathlib import Path
from typing import Any

import pytest

from tests.unit.container.monitoring.profiler.folders import Host, constant
from tests.unit.container.monitoring.profiler.rules.asking import outcome


def host(points: int = 1100, cpu: int = 30, gpu: int = 40, memory: int = 20) -> Any:
    return Host(
        cpu=constant(points, cpu, 2), gpu=constant(points, gpu), gpu_memory=constant(points, memory)
    )


def test_an_idle_instance_fires(tmp_path: Path) -> None:
    found = outcome(tmp_path, "BatchSize", host())
    assert found.fired
    assert found.datapoints == 1100
    details = found.details["algo-1"]
    assert set(details) == {"cpu", "gpu0", "gpu0_memory"}
    assert details["gpu0"] == {
        "p25": 40, "p50": 40, "p75": 40, "p95": 40, "upper": 40, "lower": 40,
    }  # fmt: skip
    assert "processors 30 %, GPU 40 %, its memory 20 %" in found.reason


@pytest.mark.parametrize("busy", [{"cpu": 80}, {"gpu": 80}, {"memory": 80}])
def test_one_used_processor_prevents_firing(tmp_path: Path, busy: Any) -> None:
    found = outcome(tmp_path, "BatchSize", host(**busy))
    assert not found.fired
    assert found.judged


def test_use_equal_to_the_threshold_does_not_fire(tmp_path: Path) -> None:
    assert not outcome(tmp_path, "BatchSize", host(gpu=70)).fired


def test_processors_count_by_their_mean(tmp_path: Path) -> None:
    mixed = host()
    mixed.cpu[:, 0] = 99  # the mean is 64.5
    assert outcome(tmp_path, "BatchSize", mixed).fired


def test_it_needs_its_patience_and_one_window(tmp_path: Path) -> None:
    assert outcome(tmp_path / "a", "BatchSize", host(120)).reason == (
        "not enough data: 120 of 1000 points"
    )
    found = outcome(tmp_path / "b", "BatchSize", host(120), patience=100)
    assert found.reason == "not enough data: 120 of 500 points"
    assert outcome(tmp_path / "c", "BatchSize", host(120), patience=100, window=100).fired


def test_without_gpus_it_judges_nothing(tmp_path: Path) -> None:
    found = outcome(tmp_path, "BatchSize", Host(cpu=constant(1100, 10)))
    assert not found.judged
    assert found.reason.startswith("no GPU metrics in this job")


def test_without_the_gpus_memory_it_judges_nothing(tmp_path: Path) -> None:
    found = outcome(tmp_path, "BatchSize", Host(cpu=constant(1100, 10), gpu=constant(1100, 9)))
    assert not found.judged
