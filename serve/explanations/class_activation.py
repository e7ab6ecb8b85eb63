"""Where in an image the exported graph finds a class: Grad-CAM without a backward pass.

Grad-CAM (Selvaraju et al., ICCV 2017) weights the channels of the last feature map by the class
score's gradient. Here the map is averaged over its positions before the head, so the gradient is
that of the head alone, by a channel: batches through the head with each channel raised in turn.
"""

from pathlib import Path
from typing import Any

import numpy as np

from container.openvino_runtime import core, openvino
from serve.explanations.heat_map import HeatMap, scaled
from serve.payloads.images import Pixels

STEP = 0.05
"""How much a channel is raised, as a share of the channels' mean magnitude: small enough for heads
that are not linear, and a thousand times float32's rounding of the scores."""
ROWS = 64
"""Raised channels in one batch: compiling a ResNet-50's head for all 2,048 took 500 MB."""
POOLS = frozenset({"ReduceMean", "AvgPool", "AdaptiveAvgPool"})


class ClassActivation:
    """A graph cut in two at its last average over positions.

    Used by one thread at a time.
    """

    def __init__(self, backbone: Any, head: Any) -> None:
        self._backbone, self._head = backbone, head

    @classmethod
    def of(cls, graph: Path, cpus: int) -> "ClassActivation | None":
        """Compile both halves; None for a graph that is not one map, its average and a head."""
        backbone, pool = _up_to_average(graph, 1)
        if pool is None:
            return None
        backbone = openvino().Model([pool.input_value(0)], backbone.get_parameters())
        # The head reads the number of images off the input: with that number fixed it need not.
        whole, pool = _up_to_average(graph, ROWS)
        pooled = openvino().opset13.parameter(pool.output(0).get_shape(), np.float32)
        scores = _scores(whole)
        for each in pool.output(0).get_target_inputs():
            each.replace_source_output(pooled.output(0))
        try:
            head = openvino().Model([scores], [pooled])
        except RuntimeError:
            return None  # The image reaches the scores on another way as well.
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": cpus,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        return cls(*(core().compile_model(half, "CPU", options) for half in (backbone, head)))

    def heat(self, image: Pixels, label: int) -> HeatMap:
        """How much each position of the map speaks for a class.

        Args:
            image: (H, W, 3), 0..255.
            label: the class's number.

        Returns:
            (h, w), 0..1, where 1 is the position that speaks most; all 0 where none does.
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
    """The model for so many images, and its last average over positions; None without one."""
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
    """What goes into the last softmax, or the output where there is none."""
    output = model.get_results()[0].input_value(0)
    node = output.get_node()
    return node.input_value(0) if node.get_type_name() == "Softmax" else output
