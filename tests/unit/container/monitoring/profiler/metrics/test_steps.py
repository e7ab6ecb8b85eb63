from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.metrics.steps import REST, breakdown
from container.monitoring.profiler.reading import Recording
from tests.unit.container.monitoring.profiler.folders import (
    START,
    Host,
    constant,
    write_berth,
    write_trace,
)


def parts(folder: Any, *hosts: Any, mode: str = "train") -> Any:
    return breakdown(Recording.read(write_berth(folder, *hosts)).events, mode)


def test_phases_add_up_to_the_step(tmp_path: Path) -> None:
    found = parts(tmp_path, Host(steps=[0.2, 0.4], phases={"data": 0.5, "forward": 0.25}))
    assert found["steps"] == 2
    assert found["seconds"] == pytest.approx(0.6)
    assert found["step"] == pytest.approx(0.3)
    assert {name: part["share"] for name, part in found["phases"].items()} == {
        "data": pytest.approx(50), "forward": pytest.approx(25), REST: pytest.approx(25),
    }  # fmt: skip
    assert found["phases"]["data"]["mean"] == pytest.approx(0.15)
    assert found["phases"]["data"]["p50"] == pytest.approx(0.15)


def test_ranks_are_combined(tmp_path: Path) -> None:
    one = Host(steps=[0.2] * 3, phases={"data": 0.5})
    other = Host(name="algo-2", steps=[0.2] * 3, phases={"data": 0.1})
    found = parts(tmp_path, one, other)
    assert found["steps"] == 6
    assert found["phases"]["data"]["share"] == pytest.approx(30)


def test_modes_are_separate(tmp_path: Path) -> None:
    host = Host(steps=[0.2], eval_steps=[0.5] * 4)
    assert parts(tmp_path / "eval", host, mode="eval")["steps"] == 4
    assert "backward" not in parts(tmp_path / "again", host, mode="eval")["phases"]


def test_nested_events_are_not_counted_twice(tmp_path: Path) -> None:
    host = Host(steps=[1.0], phases={"forward": 1.0}, cpu=constant(3, 1))
    root = write_berth(tmp_path, host) / "data" / "profiler"
    layer: tuple[str, str, float, float, dict[str, Any]] = (
        "Forward-SubModuleInternal",
        "Conv2d_0",
        START + 1.1,
        0.5,
        {},
    )
    write_trace(root, host, [layer, ("nccl", "ncclAllReduce", START + 1.2, 0.5, {})])
    found = breakdown(Recording.read(tmp_path).events, "train")
    assert list(found["phases"]) == ["forward"]
    assert found["phases"]["forward"]["share"] == pytest.approx(100)


def test_without_steps_or_time_there_are_no_shares(tmp_path: Path) -> None:
    assert parts(tmp_path / "a", Host(cpu=constant(3, 1))) == {}
    assert parts(tmp_path / "b", Host(steps=[0.0] * 3)) == {}
