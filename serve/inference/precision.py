"""Precisions on a CPU: which ones a model and a processor allow, and which is fastest."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import numpy as np

from container.artifact import Artifact
from container.openvino_runtime import core
from container.precisions import PrecisionCost
from serve.payloads.images import Pixels

REDUCED = ("bfloat16", "int8")
"""Precisions below float32, the more exact first."""

GAIN = 1.1
"""A less exact precision must be this many times as fast to be chosen."""

MEASURING_SECONDS = 0.25
"""After this time no further round of measuring begins."""
ROUNDS = 5

_CAPABILITIES = {"bfloat16": "BF16", "int8": "INT8"}
"""OpenVINO's names."""


def model_obstacle(artifact: Artifact, precision: str) -> str:
    """Why a model must not be served in bfloat16 or int8; empty if it may be."""
    cost = cost_of(artifact, precision)
    if precision == "int8":
        if cost is None:
            return "the training job made no int8 (hyperparameter quantize=int8)"
        if artifact.openvino_int8 is None:
            return f"int8 loses too much accuracy ({cost})"
    elif cost is None:
        return "the training job did not measure the accuracy in bfloat16"
    elif not artifact.bfloat16 or not artifact.bfloat16.good_enough:
        return f"bfloat16 loses too much accuracy ({cost})"
    return ""


def cost_of(artifact: Artifact, precision: str) -> PrecisionCost | None:
    """The measured accuracy of a precision; None if it was not measured."""
    return artifact.int8 if precision == "int8" else artifact.bfloat16


def has_instructions(precision: str) -> bool:
    """Whether OpenVINO supports bfloat16 or int8 natively on this processor."""
    return _CAPABILITIES[precision] in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def possible(artifact: Artifact) -> list[str]:
    """The precisions allowed for an exported model on this processor, the most exact first."""
    reduced = [
        precision
        for precision in REDUCED
        if not model_obstacle(artifact, precision) and has_instructions(precision)
    ]
    return ["float32", *reduced]


def passes(predictions: Sequence[Callable[[Pixels], object]], crop: int) -> list[float]:
    """Seconds of a pass with one image through each engine: the minimum of interleaved rounds.

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
    """The first precision, in the given order, that no other beats by a factor of `GAIN`."""
    least = min(seconds.values())
    return next(precision for precision, each in seconds.items() if each <= GAIN * least)
