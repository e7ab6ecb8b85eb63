"""What a model takes in memory, foreseen before it is loaded, and given back afterwards."""

import ctypes
import gc

from container.artifact import Artifact
from serve.inference.engine import cpu_batch
from serve.inference.precision import REDUCED

RESERVE = 256 << 20
"""Bytes left to requests: their bodies and the pictures being decoded."""

_ENGINE = 32 << 20
_WEIGHTS = 2.25
"""The graph's file is mapped while the compiled model holds the weights in a layout of its own."""

_ACTIVATIONS = 12
"""float32 arrays of the input's size that a pass holds for each image at its widest point."""


def memory_needed(artifact: Artifact, cpus: int, precision: str = "auto") -> int:
    """Bytes that a model served in a precision takes at most.

    An upper bound fitted to MobileNetV3-Small, ResNet-18 and -50 and ViT-B/16 at 224 pixels on 2
    and 8 cores under OpenVINO: their own memory came to 54 to 91 % of it, and with the mapped file
    while ViT was loaded to all of it. Only the files' sizes and the input's size are read.
    To find the fastest precision, each is loaded beside the others.
    """
    activations = _activations(artifact, cpu_batch(cpus))
    needed = _ENGINE + int(_WEIGHTS * _weights(artifact)) + activations
    return needed * (1 + len(REDUCED)) if precision == "fastest" else needed


def memory_to_explain(artifact: Artifact) -> int:
    """Bytes that the first explanation of a model takes beside it, at most.

    It compiles the graph in float32 a second time, for one image. Measured as above.
    """
    return _ENGINE + int(_WEIGHTS * _weights(artifact)) + _activations(artifact, 1)


def _weights(artifact: Artifact) -> int:
    graph = artifact.openvino
    files = (artifact.weights,) if graph is None else (graph, graph.with_suffix(".bin"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _activations(artifact: Artifact, images: int) -> int:
    return images * 3 * artifact.geometry.crop**2 * 4 * _ACTIVATIONS


def release_memory() -> None:
    """Return what an unloaded model leaves to the system; glibc would keep it."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
