"""What a CPU computes in: what is asked for, where the model and the processor bear it."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import numpy as np

from container.artifact import Artifact
from container.openvino_runtime import core
from container.precisions import PrecisionCost
from serve.payloads.images import Pixels

REDUCED = ("bfloat16", "int8")
"""What a CPU may compute in instead of float32, the more exact first."""

GAIN = 1.1
"""How many times as fast a precision must be for a more exact one to be given up."""

MEASURING_SECONDS = 0.25
"""Time in which no further round of measuring begins."""
ROUNDS = 5

_CAPABILITIES = {"bfloat16": "BF16", "int8": "INT8"}
"""OpenVINO's names."""


def model_obstacle(artifact: Artifact, precision: str) -> str:
    """Why a model may not be served in bfloat16 or int8; empty if it may."""
    cost = cost_of(artifact, precision)
    if precision == "int8":
        if cost is None:
            return "training left no int8 (hyperparameter quantize=int8)"
        if artifact.openvino_int8 is None:
            return f"int8 costs this model too much ({cost})"
    elif cost is None:
        return "training did not measure what bfloat16 costs this model"
    elif not artifact.bfloat16 or not artifact.bfloat16.good_enough:
        return f"bfloat16 costs this model too much ({cost})"
    return ""


def cost_of(artifact: Artifact, precision: str) -> PrecisionCost | None:
    """What a precision was seen to cost; None where it was not measured."""
    return artifact.int8 if precision == "int8" else artifact.bfloat16


def has_instructions(precision: str) -> bool:
    """Whether OpenVINO computes in bfloat16 or int8 on this processor."""
    return _CAPABILITIES[precision] in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def possible(artifact: Artifact) -> list[str]:
    """What an exported model may be served in on this processor, the most exact first."""
    reduced = [
        precision
        for precision in REDUCED
        if not model_obstacle(artifact, precision) and has_instructions(precision)
    ]
    return ["float32", *reduced]


def passes(predictions: Sequence[Callable[[Pixels], object]], crop: int) -> list[float]:
    """The seconds of one pass with one image through each engine: the least of a few, interleaved.

    Args:
        predictions: the engines' `predict`.
        crop: the side of their images.
    """
    grey = np.full((1, crop, crop, 3), 127, np.uint8)
    for predict in predictions:
        predict(grey)
    began = perf_counter()
    least = [float("inf")] * len(predictions)
    for _ in range(ROUNDS):
        for at, predict in enumerate(predictions):
            started = perf_counter()
            predict(grey)
            least[at] = min(least[at], perf_counter() - started)
        if perf_counter() - began > MEASURING_SECONDS:
            break
    return least


def fastest(seconds: Mapping[str, float]) -> str:
    """The most exact precision that none is `GAIN` times as fast as; they come in that order."""
    least = min(seconds.values())
    return next(precision for precision, each in seconds.items() if each <= GAIN * least)
