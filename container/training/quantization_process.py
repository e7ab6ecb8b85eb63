"""Quantises an OpenVINO graph to int8 with NNCF, in a process of its own.

    python -m container.training.quantization_process GRAPH PIXELS METHOD INTO

GRAPH maps pixels float32 (N, H, W, 3) to probabilities, PIXELS is a .npy of uint8 (N, H, W, 3),
METHOD is fast, or accurate (activations asymmetric about zero, which is a little slower to serve,
and biases corrected layer by layer), and INTO the .xml of the graph that is written. The last line
printed is `error` and the reason, or `ok`.

A process of its own, because NNCF makes OpenVINO cores besides the one a process may have
(`container.openvino_runtime.core`), draws progress bars, and can be ended between two images.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from container.openvino_runtime import openvino


def quantize(graph: Path, pixels: Path, method: str, into: Path) -> None:
    """Write the int8 graph.

    Weights get 7 of the 8 bits: products of pairs are summed in 16 bits by processors without VNNI
    or AMX, where the full range overflows, so that what is measured here would not be what another
    machine serves. Of 500
    CIFAR-10 images an EfficientNet-Lite0 labelled 32 % differently with 8 bits on a processor with
    AVX2 only, 9 % where sums were exact, and with 7 bits 14 % on either (2026-11-30).
    """
    # NNCF imports PyTorch where it is installed, which takes seconds and is of no use to a graph.
    sys.modules["torch"] = None  # type: ignore[assignment]
    ov = openvino()
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    images = np.load(pixels, mmap_mode="r", allow_pickle=False)
    model = ov.Core().read_model(graph)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(range(len(images)), lambda at: images[at : at + 1].astype(np.float32)),
        preset=nncf.QuantizationPreset("mixed" if method == "accurate" else "performance"),
        fast_bias_correction=method != "accurate",
        model_type=nncf.ModelType.TRANSFORMER if has_attention(model) else None,
        subset_size=len(images),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )
    ov.save_model(quantized, into, compress_to_fp16=False)


def has_attention(model: Any) -> bool:
    """Whether it is a transformer: a softmax besides that of the classes, or fused attention."""
    kinds = [operation.get_type_name() for operation in model.get_ops()]
    return kinds.count("Softmax") > 1 or "ScaledDotProductAttention" in kinds


def main() -> None:
    """Run from the command line."""
    graph, pixels, method, into = sys.argv[1:]
    try:
        quantize(Path(graph), Path(pixels), method, Path(into))
    except Exception as error:
        print(f"error {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    else:
        print("ok")


if __name__ == "__main__":
    main()
