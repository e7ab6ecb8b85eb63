"""The job's evaluation and the server agree on an image's probabilities to 1e-4."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from container.artifact import Artifact
from container.images.geometry import Geometry
from container.openvino_runtime import core

TOLERANCE = 1e-4
CLASSES = 6
SIZE = 96


def photo(seed: int) -> bytes:
    """A JPEG larger than the network's input, with an EXIF orientation that rotates it."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((240 + 8 * (seed % 5), 180), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, exif=exif)
    return file.getvalue()


@pytest.fixture(scope="session")
def photographed(
    platform: Any, tmp_path_factory: pytest.TempPathFactory, quick: Any, new_tree: Any
) -> Any:
    """The tree of a training job on photographs, run on this platform."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(CLASSES * 8):
        split = "validation" if number >= CLASSES * 6 else "train"
        folder = root / split / f"class {number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.jpg").write_bytes(photo(number))
    from_here = {name: root / name for name in ("train", "validation")}
    # A network with normalisation layers: the export folds them into the convolutions.
    network = {"arch": "shufflenet_v2_x0_5", "image_size": str(SIZE)}
    hyperparameters = quick | network | {"epochs": "2"}
    tree = new_tree(tmp_path_factory.mktemp("job") / "ml", hyperparameters, from_here)
    result = platform.train(tree)
    assert result.code == 0, result.logs
    return result.tree


def test_the_server_predicts_the_golden_image_as_evaluated(
    platform: Any, photographed: Any
) -> None:
    golden = json.loads((photographed.output / "evaluation.json").read_text())["golden"]
    expected = golden["predictions"]
    assert len(expected) == 5
    assert expected[0]["probability"] - expected[4]["probability"] > 10 * TOLERANCE, "too even"
    data = (photographed.output / golden["file"]).read_bytes()
    pixels = io.BytesIO()
    np.save(pixels, Geometry.for_size(SIZE).load(data, name="golden"))
    document = json.dumps({"instances": [{"b64": base64.b64encode(data).decode()}] * 2})
    with platform.serve(photographed.model) as endpoint:
        endpoint.until_ready()
        answers = [
            endpoint.invoke(data, "image/jpeg"),
            endpoint.invoke(data, "application/octet-stream"),
            endpoint.invoke(document.encode(), "application/json"),
            endpoint.invoke(pixels.getvalue(), "application/x-npy"),
        ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        for prediction in answer.json()["predictions"]:
            top = prediction["top"]
            assert [entry["label"] for entry in top] == [entry["label"] for entry in expected]
            for entry, wanted in zip(top, expected, strict=True):
                assert entry["probability"] == pytest.approx(wanted["probability"], abs=TOLERANCE)


def test_bfloat16_probabilities_differ_by_less_than_0_02(platform: Any, photographed: Any) -> None:
    """If bfloat16 is refused, the log says why and the probabilities are those of float32."""
    measured = Artifact.read(photographed.model).bfloat16
    capable = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    served = capable and measured is not None and measured.good_enough
    golden = json.loads((photographed.output / "evaluation.json").read_text())["golden"]
    data = (photographed.output / golden["file"]).read_bytes()
    with platform.serve(photographed.model, {"BERTH_PRECISION": "bfloat16"}) as endpoint:
        endpoint.until_ready()
        answer = endpoint.invoke(
            data, "image/jpeg", X_Amzn_SageMaker_Custom_Attributes=f"top_k={CLASSES}"
        )
        logs = endpoint.running.logs()
    assert answer.status_code == 200, answer.text
    probabilities = {
        entry["label"]: entry["probability"] for entry in answer.json()["predictions"][0]["top"]
    }
    differences = [
        abs(probabilities[entry["label"]] - entry["probability"]) for entry in golden["predictions"]
    ]
    assert max(differences) < 0.02
    assert ("in bfloat16\n" in logs) == served, logs
    if not served:
        assert "serving in float32" in logs
        assert max(differences) < TOLERANCE
