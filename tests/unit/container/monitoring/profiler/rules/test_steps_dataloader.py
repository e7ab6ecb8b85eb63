from pathlib import Path
from typing import Any

import pytest

from tests.unit.container.monitoring.profiler.folders import (
    START,
    Host,
    constant,
    write_berth,
    write_trace,
)
from tests.unit.container.monitoring.profiler.rules.asking import _outcome, berth_outcome, outcome


def host(cores: int = 4, steps: int = 40) -> Any:
    return Host(cpu=constant(60, 50, cores), steps=[0.1] * steps)


@pytest.mark.parametrize(
    ("workers", "cores", "fires"),
    [
        (0, 4, True), (2, 4, True), (3, 4, False), (8, 4, False), (9, 4, True),
        (0, 1, False),  # the training process itself loads
        (7, 10, False), (6, 10, True), (20, 10, False), (21, 10, True),
    ],
)  # fmt: skip
def test_workers_against_cores(tmp_path: Path, workers: int, cores: int, fires: bool) -> None:
    found = berth_outcome(tmp_path, "Dataloader", host(cores), job={"workers": workers})
    assert found.fired is fires
    assert found.details["cores"] == cores
    assert found.details["num_workers"] == workers
    assert found.datapoints == 40


def test_the_cause_and_its_cost_are_reported(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "Dataloader", host(), job={"workers": 1})
    assert found.reason == "1 loader process for 4 cores: fewer than 70 %"
    assert found.details["wait_share"] == pytest.approx(20, abs=0.1)
    assert found.details["dataloading_time"]["p50"] == pytest.approx(0.02)
    assert sum(found.details["dataloading_time"]["probs"]) == 40
    assert found.moments == (pytest.approx(START + 1),)


def test_images_that_stay_in_memory_need_no_loaders(tmp_path: Path) -> None:
    facts = {"workers": 0, "in_memory": True}
    found = berth_outcome(tmp_path, "Dataloader", host(), job=facts)
    assert not found.fired
    assert not found.judged
    assert found.reason.endswith("the images are decoded once and stay in memory")


def test_its_thresholds_are_used(tmp_path: Path) -> None:
    found = berth_outcome(
        tmp_path, "Dataloader", host(), job={"workers": 2}, min_threshold=50, max_threshold=60
    )
    assert not found.fired


def test_every_rank_of_a_host_has_workers(tmp_path: Path) -> None:
    facts = {"workers": 2, "world": 4, "hosts": ["algo-1", "algo-2"]}
    found = berth_outcome(tmp_path, "Dataloader", host(), job=facts)
    assert found.details["dataloaders"] == 4
    assert not found.fired


def with_workers(folder: Any, loaders: Any) -> Any:
    """Return a recording without job.json whose timeline shows running loader processes."""
    root = write_berth(folder, host()) / "data" / "profiler"
    (root / "job.json").unlink()
    work = [
        ("DataLoaderWorker", "work", START + second + 0.01 * worker, 0.5, {"pid": worker})
        for second in range(10)
        for worker in range(100, 100 + loaders)
    ]  # fmt: skip
    write_trace(root, host(), work)
    return folder


def test_loader_processes_are_counted_in_the_timeline(tmp_path: Path) -> None:
    found = _outcome(with_workers(tmp_path / "one", 1), "Dataloader", {})
    assert found.fired
    assert found.details["dataloaders"] == 1
    found = _outcome(with_workers(tmp_path / "four", 4), "Dataloader", {})
    assert not found.fired
    assert found.details["source"] == "timeline"


def test_a_recording_without_loader_information(tmp_path: Path) -> None:
    found = outcome(tmp_path / "workers", "Dataloader", host())
    assert found.reason == "the recording does not tell how many loader workers the job had"
    assert not found.judged
    found = berth_outcome(
        tmp_path / "cores", "Dataloader", Host(steps=[0.1] * 5), job={"cores": None, "workers": 1}
    )
    assert found.reason == "the recording does not tell how many cores the host had"
