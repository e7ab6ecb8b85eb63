"""Engines that run a backbone on images: PyTorch, or on a CPU OpenVINO."""

from contextlib import nullcontext
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from container.features.backbone import Backbone
from container.openvino_runtime import core, openvino
from container.results.evaluation import tf32_disabled

Values = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest accepted difference between an engine's features and PyTorch's, relative to the
largest."""


class FeatureEngine(Protocol):
    """Maps images, uint8 (N, 3, H, W), to features, float32 (N, F)."""

    name: str

    def __call__(self, images: Tensor) -> Values:
        """Compute features."""
        ...


class TorchBackbone:
    """PyTorch on any device, in float32 without TF32 or with autocast to bfloat16.

    Args:
        backbone: the backbone, on the device.
        device: the device.
        precision: float32 or bfloat16.
    """

    def __init__(self, backbone: Backbone, device: torch.device, precision: str) -> None:
        self.name = f"PyTorch on {device.type}" + (" in bfloat16" * (precision == "bfloat16"))
        self._classifier, self._device, self._precision = backbone.classifier, device, precision
        backbone.to(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Values:
        """Compute features."""
        bfloat16 = self._precision == "bfloat16"
        with (
            torch.inference_mode(),
            nullcontext() if bfloat16 else tf32_disabled(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=bfloat16),
        ):
            pixels = self._classifier.normalize(images.to(self._device, non_blocking=True))
            features = self._classifier.network(
                pixels.contiguous(memory_format=torch.channels_last)
            )
            return cast(Values, features.float().cpu().numpy())


class OpenVinoBackbone:
    """OpenVINO in float32 on the CPU.

    Args:
        graph: maps pixels float32 (N, H, W, 3) to features; not modified.
        threads: number of CPU threads.
    """

    def __init__(self, graph: Any, threads: int) -> None:
        ov = openvino()
        self.name = "OpenVINO"
        # The loader yields uint8 (N, 3, H, W).
        prepared = ov.preprocess.PrePostProcessor(graph.clone())
        prepared.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NCHW"))
        prepared.input().model().set_layout(ov.Layout("NHWC"))
        self._compiled = core().compile_model(
            prepared.build(),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
            },
        )

    def __call__(self, images: Tensor) -> Values:
        """Compute features."""
        return np.array(self._compiled(images.numpy())[0], dtype=np.float32)


def difference(one: Values, other: Values) -> float:
    """The largest absolute difference of two matrices, relative to the largest value of `other`."""
    return float(np.abs(one - other).max() / max(float(np.abs(other).max()), 1e-6))
