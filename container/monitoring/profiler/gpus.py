"""How much the GPUs are used, as NVIDIA's driver tells (NVML)."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from container.monitoring.profiler.machine import Metric


class Gpus:
    """Per GPU, the share of time it worked and the share of its memory in use, in %.

    Without a driver, or without NVML's Python library, there are none; a GPU that stops answering
    is left out from then on. Each is said once.

    Args:
        say: where messages go.
        nvml: stands in for the library.
    """

    def __init__(self, say: Callable[[str], None], nvml: Any = None) -> None:
        self._say = say
        self._gpus: dict[int, Any] = {}
        self._silent: set[str] = set()
        try:
            self._nvml = importlib.import_module("pynvml") if nvml is None else nvml
        except ImportError as error:
            say(f"the profiler records no GPU metrics: {error}")
            return
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._gpus = {i: self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)}
        except self._nvml.NVMLError as error:
            say(f"the profiler records no GPU metrics: {error}")

    def sample(self) -> Iterator[Metric]:
        """Two figures a GPU."""
        for number, gpu in self._gpus.items():
            name = f"gpu{number}"
            for dimension, ask in (
                ("GPUUtilization", self._utilization),
                ("GPUMemoryUtilization", self._memory),
            ):
                if f"{name} {dimension}" in self._silent:
                    continue
                try:
                    value = ask(gpu)
                except self._nvml.NVMLError as error:
                    self._silent.add(f"{name} {dimension}")
                    self._say(f"the profiler records no {dimension} of {name} any more: {error}")
                    continue
                yield Metric("gpu", name, dimension, value)

    def _utilization(self, gpu: Any) -> float:
        return float(self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)

    def _memory(self, gpu: Any) -> float:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
        return 100 * memory.used / memory.total if memory.total else 0.0
