import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container.data.loader import affordable_workers

MEGABYTE = 1 << 20


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def set_to(megabytes: int) -> None:
        room = SimpleNamespace(f_bavail=megabytes * 256, f_frsize=4096)
        monkeypatch.setattr(os, "statvfs", lambda _: room)

    return set_to


def test_no_message_with_enough_shared_memory(free: Callable[..., Any]) -> None:
    said: list[str] = []
    free(1024)
    assert affordable_workers(4, 2, MEGABYTE, report=said.append) == 4
    assert said == []


@pytest.mark.parametrize(("batch", "workers", "needed"), [(4, 2, 96), (10, 1, 240), (11, 0, 264)])
def test_too_little_shared_memory_suggests_shm_size(
    batch: int, workers: int, needed: int, free: Callable[..., Any]
) -> None:
    said: list[str] = []
    free(64)
    assert affordable_workers(4, 2, batch * MEGABYTE, report=said.append) == workers
    assert said == [
        "/dev/shm has 64 MB free, too little for 4 data-loading workers: "
        f"using {workers}; for all of them start the container with --shm-size={needed}m"
    ]


def test_the_suggested_size_is_enough(free: Callable[..., Any]) -> None:
    free(96)
    said: list[str] = []
    assert affordable_workers(4, 2, 4 * MEGABYTE, report=said.append) == 4
    assert said == []


def test_no_workers_need_no_shared_memory(free: Callable[..., Any]) -> None:
    free(0)
    assert affordable_workers(0, 2, MEGABYTE) == 0


@pytest.mark.parametrize(("platform", "workers"), [("linux", 0), ("darwin", 3)])
def test_no_such_folder(
    platform: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    said: list[str] = []
    missing = tmp_path / "shm"
    assert affordable_workers(3, 2, 1, report=said.append, shared_memory=missing) == workers
    assert bool(said) == (workers == 0)
