import os
from pathlib import Path

import pytest

from container.cpus import allowed_cpus, available_cpus, physical_cpus


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("250000 100000", 3),
     ("9900000 100000", 8), ("nonsense", 8)],
)  # fmt: skip
def test_cgroup_v2(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert available_cpus(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("150000", 2)])
def test_cgroup_v1(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == cores


def test_no_cgroup_is_the_affinity_mask(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == 8


def test_no_affinity_mask_is_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert allowed_cpus() == {0, 1, 2, 3}
    assert available_cpus(tmp_path) == 4
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus(tmp_path) == 1


def test_the_threads_of_a_core_are_one_physical_core(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "core_cpus_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    assert physical_cpus(tmp_path, tmp_path) == 4
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    assert physical_cpus(tmp_path, tmp_path) == 3


def test_physical_cores_of_an_unknown_topology_are_those_available(tmp_path: Path) -> None:
    assert physical_cpus(tmp_path, tmp_path) == 8
