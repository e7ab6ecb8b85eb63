"""Estimates a model's memory before it is loaded, and returns it to the system afterwards."""

import gc

from container.artifact import Artifact
from container.memory import trim_heap
from serve.inference.engine import cpu_batch
from serve.inference.precision import REDUCED

RESERVE = 256 << 20
"""Bytes reserved for requests: their bodies and the images being decoded."""

_ENGINE = 32 << 20
_WEIGHTS = 2.25
"""The graph's file is mapped, and the compiled model has the weights in its own layout."""

_ACTIVATIONS = 12
"""Peak memory of a pass per image, in float32 arrays of the input's size."""


def memory_needed(artifact: Artifact, cpus: int, precision: str = "auto") -> int:
    """Upper bound, in bytes, of the memory of a model served in a precision.

    Fitted to MobileNetV3-Small, ResNet-18 and -50 and ViT-B/16 at 224 pixels on 2 and 8 cores with
    OpenVINO, which took 54 to 91 % of it; with the mapped file while loading, ViT took all of it.
    It depends only on the sizes of the files and of the input. `fastest` loads every precision at
    the same time.
    """
    activations = _activations(artifact, cpu_batch(cpus))
    needed = _ENGINE + int(_WEIGHTS * _weights(artifact)) + activations
    return needed * (1 + len(REDUCED)) if precision == "fastest" else needed


def memory_to_explain(artifact: Artifact) -> int:
    """Upper bound, in bytes, of the additional memory of a model's first explanation.

    It compiles the graph again, in float32 and for one image. Measured like `memory_needed`.
    """
    return _ENGINE + int(_WEIGHTS * _weights(artifact)) + _activations(artifact, 1)


def _weights(artifact: Artifact) -> int:
    graph = artifact.openvino
    files = (artifact.weights,) if graph is None else (graph, graph.with_suffix(".bin"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _activations(artifact: Artifact, images: int) -> int:
    return images * 3 * artifact.geometry.crop**2 * 4 * _ACTIVATIONS


def release_memory() -> None:
    """Return an unloaded model's memory to the system; glibc would keep it."""
    gc.collect()
    trim_heap()
