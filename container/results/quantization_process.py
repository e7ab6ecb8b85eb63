"""Quantizes an OpenVINO graph to int8 with NNCF, in its own process.

    python -m container.results.quantization_process GRAPH PIXELS METHOD INTO

GRAPH maps pixels float32 (N, H, W, 3) to probabilities. PIXELS is a .npy of uint8 (N, H, W, 3).
METHOD is fast, or accurate (asymmetric activations, which serve slightly slower, and biases
corrected layer by layer). INTO is the .xml to write. The last line printed is `ok`, or `error` and
the reason.

It has its own process because NNCF creates more OpenVINO cores than the one a process may have
(`container.openvino_runtime.core`) and draws progress bars, and so that it can be killed at any
time.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from container.openvino_runtime import openvino


def quantize(graph: Path, pixels: Path, method: str, into: Path) -> None:
    """Write the int8 graph.

    Weights use 7 of the 8 bits. Processors without VNNI or AMX add pairs of products in 16 bits,
    where the full range overflows, and accuracy would depend on the machine. With 8 bits an
    EfficientNet-Lite0 labelled 32 % of 500 CIFAR-10 images differently on a processor with AVX2
    only, and 9 % where sums were exact; with 7 bits, 14 % on either (2026-11-30).
    """
    # NNCF imports PyTorch if installed, which takes seconds and is not needed for a graph.
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
    """Whether the model is a transformer: it has fused attention, or more than one softmax."""
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
