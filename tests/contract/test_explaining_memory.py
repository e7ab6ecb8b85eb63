"""A multi-model server with little memory explains the predictions of every model."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset8 as ops
import pytest
import requests
from PIL import Image

from tests.unit.serve.artifacts import CROP, write_artifact

pytestmark = [
    pytest.mark.docker,
    pytest.mark.parametrize("platform", ["slim"], indirect=True),
]

MODELS = 6
WIDTH = 3000
"""Channels; a model has 36 MB of weights, and compiling it temporarily needs twice that."""
MEMORY = "700m"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def write_heavy_graph(path: Path) -> None:
    """Write a graph of two convolutions, the second with 36 MB of weights, and three classes."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return ops.constant(random.standard_normal(shape, dtype=np.float32) / 100)

    pixels = ops.parameter([-1, CROP, CROP, 3], np.float32, name="pixels")
    features = ops.transpose(pixels, ops.constant(np.array([0, 3, 1, 2])))
    for channels in (3, WIDTH):
        features = ops.relu(
            ops.convolution(
                features, weights(WIDTH, channels, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]
            )
        )
    pooled = ops.reduce_mean(features, ops.constant(np.array([2, 3])), keep_dims=False)
    output = ops.softmax(ops.matmul(pooled, weights(WIDTH, 3), False, False), axis=1)
    ov.save_model(ov.Model([output], [pixels]), path, compress_to_fp16=False)


def test_every_model_is_explained_within_the_containers_memory(
    platform: Any, tmp_path: Path
) -> None:
    for number in range(MODELS):
        model = write_artifact(tmp_path / f"m{number}" / "model")
        write_heavy_graph(model / "openvino" / "model.xml")
    picture = io.BytesIO()
    Image.new("RGB", (CROP, CROP), (200, 60, 60)).save(picture, "PNG")
    limits = {"mem_limit": MEMORY, "memswap_limit": MEMORY}
    environment = {"SAGEMAKER_MULTI_MODEL": "true"}
    with platform.serve(tmp_path, environment, place="models", **limits) as endpoint:
        endpoint.until_ready()
        for number in range(MODELS):
            url = f"/opt/ml/models/m{number}/model"
            answer = requests.post(
                f"{endpoint.url}/models", json={"model_name": f"m{number}", "url": url}, timeout=120
            )
            assert answer.status_code == 200, answer.text
        for _ in range(2):
            for number in range(MODELS):
                answer = endpoint.invoke(
                    picture.getvalue(),
                    "image/png",
                    f"/models/m{number}/invoke",
                    **{ATTRIBUTES: "explain=true"},
                )
                assert answer.status_code == 200, (answer.text, endpoint.running.logs())
                assert answer.json()["predictions"][0]["heat_map"]
        logs = endpoint.running.logs()
    assert logs.count("Booting worker") == 1, logs
