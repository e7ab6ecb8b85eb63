"""Grad-CAM on an exported graph, without a backward pass.

Grad-CAM (Selvaraju et al., ICCV 2017) weights the channels of the last feature map by the gradient
of the class score. The networks here average that map over positions before the head, so only the
head's gradient with respect to each channel's mean is needed, which is found by finite differences.
"""

from pathlib import Path
from typing import Any

import numpy as np

from container.openvino_runtime import core, openvino
from serve.explanations.heat_map import HeatMap, scaled
from serve.payloads.images import Pixels

STEP = 0.05
"""Step of the finite differences, as a share of the channels' mean magnitude: small enough for
non-linear heads, and a thousand times the rounding error of scores in float32."""
ROWS = 64
"""Channels in one batch: compiling a ResNet-50's head for all 2,048 took 500 MB."""
POOLS = frozenset({"ReduceMean", "AvgPool", "AdaptiveAvgPool"})


class ClassActivation:
    """A graph split at its last average over positions. Not thread-safe."""

    def __init__(self, backbone: Any, head: Any) -> None:
        self._backbone, self._head = backbone, head

    @classmethod
    def of(cls, graph: Path, cpus: int) -> "ClassActivation | None":
        """Compile both halves; None for a graph without a map, its average and a head."""
        backbone, pool = _up_to_average(graph, 1)
        if pool is None:
            return None
        backbone = openvino().Model([pool.input_value(0)], backbone.get_parameters())
        # A fixed batch size, because a dynamic one would be read from the input of the backbone.
        model, pool = _up_to_average(graph, ROWS)
        pooled = openvino().opset13.parameter(pool.output(0).get_shape(), np.float32)
        scores = _scores(model)
        for each in pool.output(0).get_target_inputs():
            each.replace_source_output(pooled.output(0))
        try:
            head = openvino().Model([scores], [pooled])
        except RuntimeError:
            return None  # The scores also depend on the image in another way.
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": cpus,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        return cls(*(core().compile_model(half, "CPU", options) for half in (backbone, head)))

    def heat(self, image: Pixels, label: int) -> HeatMap:
        """The heat map of a class.

        Args:
            image: (H, W, 3), 0..255.
            label: the class's number.

        Returns:
            (h, w), 0..1, where 1 is the strongest position; all 0 if none supports the class.
        """
        kind = np.dtype(self._backbone.input(0).get_element_type().to_dtype())
        if kind.kind in "iu" and image.dtype.kind == "f":
            image = np.rint(image).clip(0, 255)
        features = np.array(self._backbone([image.astype(kind)[None]])[0], np.float32)[0]
        pooled = features.mean(axis=(1, 2))
        step = STEP * float(np.abs(pooled).mean()) or STEP
        raised = np.tile(pooled, (-(-(1 + len(pooled)) // ROWS) * ROWS, 1))
        np.einsum("cc->c", raised[1 : 1 + len(pooled)])[:] += step
        batches = raised.reshape(-1, *self._head.input(0).get_shape())
        scores = np.concatenate([np.array(self._head([batch])[0])[:, label] for batch in batches])
        weights = (scores[1 : 1 + len(pooled)] - scores[0]) / step
        return scaled(np.einsum("c,chw->hw", weights, features))


def _up_to_average(graph: Path, images: int) -> tuple[Any, Any]:
    """The model for a batch of `images`, and its last average over positions, or None."""
    from openvino.passes import ConstantFolding, Manager

    model = core().read_model(str(graph))
    model.reshape([images, *list(model.input(0).get_partial_shape())[1:]])
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    model.validate_nodes_and_infer_types()
    pools = [node for node in model.get_ordered_ops() if _averages_positions(node)]
    return model, pools[-1] if pools else None


def _averages_positions(node: Any) -> bool:
    if node.get_type_name() not in POOLS:
        return False
    shapes = node.input(0).get_partial_shape(), node.output(0).get_partial_shape()
    if any(shape.is_dynamic for shape in shapes):
        return False
    before, after = (list(shape.to_shape()) for shape in shapes)
    if len(before) != 4 or before[2] * before[3] == 1:
        return False
    return after[1:] in ([before[1]], [before[1], 1, 1])


def _scores(model: Any) -> Any:
    """The input of the last softmax, or the output if there is no softmax."""
    output = model.get_results()[0].input_value(0)
    node = output.get_node()
    return node.input_value(0) if node.get_type_name() == "Softmax" else output
