"""Chooses the fastest available engine for a backbone."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from container.errors import first_line
from container.features.backbone import Backbone
from container.features.cache import FeatureCache
from container.features.engine import (
    TOLERANCE,
    FeatureEngine,
    OpenVinoBackbone,
    TorchBackbone,
    difference,
)
from container.features.graph import graph_name, keep_graph, kept_graph

WORTH_SECONDS = 20.0
"""If PyTorch takes more CPU time than this for all images, converting to OpenVINO pays off. CPU
time of all threads, not wall time: on a busy machine both would take longer, the conversion too."""
_OF_A_BACKBONE = ("arch", "stem", "weights", "geometry", "mean", "std", "width", "format")


class Engines:
    """The engines of one backbone, created when first needed.

    Args:
        cache: where a converted backbone is kept.
        device: where the backbone is.
        threads: number of CPU threads.
        keep: convert even for few images, as the graph is needed later.
    """

    def __init__(
        self, cache: FeatureCache, device: torch.device, *, threads: int, keep: bool
    ) -> None:
        self._cache, self._device, self._threads, self._keep = cache, device, threads, keep
        self.fast: FeatureEngine | None = None
        self._slow_only = False
        self._name: str | None = None
        self.graph: Any | None = None

    def choose(
        self,
        backbone: Backbone,
        parts: dict[str, Any],
        sample: Tensor,
        precision: str,
        images: int,
    ) -> FeatureEngine:
        """The engine for a number of images.

        Args:
            backbone: the backbone.
            parts: the parts of the features' key.
            sample: some of the images, uint8 (N, 3, H, W).
            precision: float32, or bfloat16, which only PyTorch supports.
            images: number of images to process.
        """
        torch_engine = TorchBackbone(backbone, self._device, precision)
        if self._device.type != "cpu" or precision != "float32" or self._slow_only:
            return torch_engine
        if self.fast is not None:
            return self.fast
        expected = torch_engine(sample)
        started = time.process_time()
        torch_engine(sample)
        seconds = (time.process_time() - started) / self._threads / len(sample) * images
        if not self._keep and seconds < WORTH_SECONDS:
            return torch_engine
        self._slow_only = True
        try:
            graph = self.load(parts) or self._convert(backbone, parts)
            engine = OpenVinoBackbone(graph, self._threads)
            differs = difference(engine(sample), expected)
        except Exception as error:
            self._cache.say(f"features by PyTorch, as OpenVINO failed: {first_line(error)}")
            return torch_engine
        if not differs <= TOLERANCE:
            self._cache.say(
                f"features by PyTorch, as OpenVINO's differ by {differs:.1e} of the largest value "
                f"(at most {TOLERANCE:.0e} is accepted)"
            )
            return torch_engine
        self._slow_only = False
        self.fast = engine
        return engine

    def load(self, parts: dict[str, Any]) -> Any | None:
        """The backbone's graph, if the cache has it."""
        if self.graph is None:
            name = self._name = graph_name(_backbone_parts(parts))
            self._cache.hold(name)
            self.graph = kept_graph(self._cache, name)
        return self.graph

    @property
    def folder(self) -> Path | None:
        """The folder of the graph in the cache; None if there is none."""
        folder = None if self._name is None else self._cache.folder(self._name)
        return folder if folder is not None and folder.is_dir() else None

    def _convert(self, backbone: Backbone, parts: dict[str, Any]) -> Any:
        name = graph_name(_backbone_parts(parts))
        with self._cache.computing(name, "the backbone's conversion"):
            self.graph = kept_graph(self._cache, name)
            if self.graph is None:
                size = int(parts["geometry"]["crop"])
                self.graph = keep_graph(self._cache, name, backbone, size)
        return self.graph


def _backbone_parts(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: parts[name] for name in _OF_A_BACKBONE}
