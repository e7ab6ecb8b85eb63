"""Chooses the fastest engine at hand for a backbone."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
"""Processor time by PyTorch for all images, over its threads, from which a conversion pays.

Not wall time: on a busy machine both take longer, the conversion too."""
_OF_A_BACKBONE = ("arch", "stem", "weights", "geometry", "mean", "std", "width", "format")


class Engines:
    """The engines of one backbone, made when they are first needed.

    Args:
        cache: where a converted backbone is kept.
        device: where the backbone is.
        threads: of the processor.
        keep: convert whatever the number of images, as the graph is needed later.
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
        """The engine for this many images.

        Args:
            backbone: the classifier without its head.
            parts: of the features' key.
            sample: some of the images, uint8 (N, 3, H, W).
            precision: float32 or bfloat16, which PyTorch alone computes in.
            images: how many there are to go through.
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
            line = (str(error).splitlines() or [type(error).__name__])[0]
            self._cache.say(f"features by PyTorch, as OpenVINO fails: {line}")
            return torch_engine
        if not differs <= TOLERANCE:
            self._cache.say(
                f"features by PyTorch, as OpenVINO's differ by {differs:.1e} of the largest (at "
                f"most {TOLERANCE:.0e} is accepted)"
            )
            return torch_engine
        self._slow_only = False
        self.fast = engine
        return engine

    def load(self, parts: dict[str, Any]) -> Any | None:
        """The backbone's graph, if it is kept."""
        if self.graph is None:
            name = self._name = graph_name(_backbone_parts(parts))
            self._cache.hold(name)
            self.graph = kept_graph(self._cache, name)
        return self.graph

    @property
    def folder(self) -> Path | None:
        """Where the graph that is used is kept; None where there is none."""
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
