"""A tiny artifact with predictable probabilities, and an engine that needs no artifact."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import openvino as ov
import openvino.opset8 as ops
from PIL import Image

from container.precisions import Bfloat16, Int8
from serve.inference.predictor import Predictor
from serve.payloads.images import Pixels, Probabilities
from serve.settings import Settings

CROP = 8
CLASSES = ("red", "green", 'blue, "deep"')


def write_graph(
    path: Path, *, classes: int = 3, dtype: type = np.float32, spread: float = 0.1
) -> None:
    """Write a graph: softmax of a tenth of each channel's mean, so no probability is 0 or 1."""
    pixels = ops.parameter([-1, CROP, CROP, 3], dtype, name="pixels")
    means = ops.reduce_mean(
        ops.convert(pixels, "f32"), ops.constant(np.array([1, 2])), keep_dims=False
    )
    logits = ops.constant(np.eye(3, classes, dtype=np.float32) * np.float32(spread))
    output = ops.softmax(ops.matmul(means, logits, False, False), axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.Model([output], [pixels]), path, compress_to_fp16=False)


def write_artifact(
    model_dir: Path,
    *,
    export: bool = True,
    bfloat16: Bfloat16 | None = None,
    int8: Int8 | None = None,
) -> Path:
    model_dir.mkdir(parents=True, exist_ok=True)
    description = {
        "format": 1,
        "arch": "resnet18",
        "stem": "small",
        "head_hidden": [],
        "dropout": 0.0,
        "image_size": CROP,
        "classes": list(CLASSES),
        "geometry": {"resize": CROP, "crop": CROP},
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.5],
        "export": {"openvino": "openvino/model.xml", "max_difference": 0.0, "images": 1}
        if export
        else None,
        "provenance": {},
        "bfloat16": asdict(bfloat16) if bfloat16 else None,
        "int8": asdict(int8) if int8 else None,
    }
    (model_dir / "model.json").write_text(json.dumps(description))
    (model_dir / "model.safetensors").write_bytes(b"")
    if export:
        write_graph(model_dir / "openvino" / "model.xml")
        if int8 and int8.good_enough:
            write_graph(model_dir / "openvino" / "int8" / "model.xml", spread=0.05)
    return model_dir


def picture(color: str = "red", size: tuple[int, int] = (20, 16), kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, kind)
    return data.getvalue()


def wait_for(predictor: Predictor, state: str) -> dict[str, str]:
    until = monotonic() + 60
    while (status := predictor.status())["status"] != state:
        assert monotonic() < until, f"expected {state}, still {status}"
        sleep(0.005)
    return status


class ChannelMeans:
    """An engine without OpenVINO whose probabilities are each channel's share of the brightness."""

    name = "channel means"
    max_batch = 4
    exact = True

    def predict(self, batch: Pixels) -> Probabilities:
        means = batch.mean(axis=(1, 2), dtype=np.float32) + 1
        return np.asarray(means / means.sum(axis=1, keepdims=True), np.float32)


def settings_for(model_dir: Path, *, payload_mb: int = 1) -> Settings:
    return Settings(
        model_dir=model_dir,
        host="127.0.0.1",
        port=8080,
        payload_mb=payload_mb,
        transforms=3,
        strategy="SINGLE_RECORD",
        advertised_mb=1,
        cpus=2,
    )
