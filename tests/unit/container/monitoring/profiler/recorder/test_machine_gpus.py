import sys
from types import SimpleNamespace
from typing import Any

import pytest

from container.monitoring.profiler.recorder.machine import Gpus, Metric


class NVMLError(Exception):
    pass


class Nvml:
    """Two GPUs, as pynvml shows them."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.fails: set[str] = set()

    def _ask(self, what: str) -> None:
        if what in self.fails:
            raise NVMLError("Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802
        self._ask("init")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"handle {index}"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        self._ask(f"use of {handle}")
        return SimpleNamespace(gpu=30 + int(handle[-1]), memory=99)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        self._ask(f"memory of {handle}")
        return SimpleNamespace(used=20 * 2**30, total=80 * 2**30, free=60 * 2**30)


def test_each_gpu_has_two_metrics() -> None:
    said: list[str] = []
    assert list(Gpus(said.append, Nvml()).sample()) == [
        Metric("gpu", "gpu0", "GPUUtilization", 30.0),
        Metric("gpu", "gpu0", "GPUMemoryUtilization", 25.0),
        Metric("gpu", "gpu1", "GPUUtilization", 31.0),
        Metric("gpu", "gpu1", "GPUMemoryUtilization", 25.0),
    ]
    assert said == []


def test_a_gpu_that_stops_responding_is_reported_once() -> None:
    said: list[str] = []
    nvml = Nvml()
    gpus = Gpus(said.append, nvml)
    nvml.fails = {"use of handle 1"}
    for _ in range(3):
        assert [(m.name, m.dimension) for m in gpus.sample()] == [
            ("gpu0", "GPUUtilization"),
            ("gpu0", "GPUMemoryUtilization"),
            ("gpu1", "GPUMemoryUtilization"),
        ]
    assert said == ["the profiler records no GPUUtilization of gpu1 any more: Not Supported"]


def test_no_driver() -> None:
    said: list[str] = []
    nvml = Nvml()
    nvml.fails = {"init"}
    assert list(Gpus(said.append, nvml).sample()) == []
    assert said == ["the profiler records no GPU metrics: Not Supported"]


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert list(Gpus(said.append).sample()) == []
    assert len(said) == 1
    assert "pynvml" in said[0]
