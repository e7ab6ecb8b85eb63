"""Converts a network to an OpenVINO graph.

`torch.export` proves that a graph holds for every input, which takes seconds for a small network
and a minute for a large one. `torch.jit.trace` takes a third or less, but records one example. A
trace is used if PyTorch warns of nothing in it that depends on the example, and if its graph equals
the network on other images, in another number; otherwise the network is exported.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from container.openvino_runtime import core, openvino

TOLERANCE = 1e-4
"""Largest accepted difference from PyTorch, in units of the largest value if that is over 1."""
_CHECKED = 3
"""Images that a traced graph is checked with; it is traced with another number."""


def convert(
    module: nn.Module, pixels: npt.NDArray[np.float32], output: str = "probabilities"
) -> Any:
    """Convert a module to an OpenVINO graph with a dynamic batch size.

    Args:
        module: maps pixels to a matrix; in eval mode, on the CPU.
        pixels: float32 (N, H, W, 3), RGB 0..255, to trace it with.
        output: name of the graph's output.
    """
    # Two images: torch.export treats a dimension of size one as constant.
    example = torch.from_numpy(np.resize(pixels, (2, *pixels.shape[1:])))
    graph = _traced(module, example)
    if graph is None:
        graph = _exported(module, example)
    graph.input(0).set_names({"pixels"})
    graph.output(0).set_names({output})
    return graph


def _exported(module: nn.Module, example: torch.Tensor) -> Any:
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    return _with_dynamic_batch(openvino().convert_model(program), example)


def _traced(module: nn.Module, example: torch.Tensor) -> Any | None:
    """The graph of a trace, or None if it may not hold for other images."""
    try:
        with warnings.catch_warnings(record=True) as warned, torch.no_grad():
            # A warning raised as an error in the middle of a trace leaves the tracer broken.
            warnings.simplefilter("always")
            trace = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
            if any(issubclass(each.category, TracerWarning) for each in warned):
                return None
            graph = openvino().convert_model(trace, example_input=example)
        graph = _with_dynamic_batch(graph, example)
        return graph if _equals(graph, module, example) else None
    except Exception:
        return None  # torch.export says what is wrong


def _with_dynamic_batch(graph: Any, example: torch.Tensor) -> Any:
    graph.reshape([-1, *example.shape[1:]])
    return graph


def _equals(graph: Any, module: nn.Module, example: torch.Tensor) -> bool:
    """Whether the graph and the module agree on random pixels."""
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (_CHECKED, *example.shape[1:])).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(images)[0]
    if found.shape != expected.shape:
        return False
    largest = max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(found - expected).max() <= TOLERANCE * largest)
