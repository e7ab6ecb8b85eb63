"""Valid and invalid contents of model.json, without a model."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from container.artifact import Artifact
from container.errors import ArtifactError
from tests.unit.serve.artifacts import write_artifact


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "model", export=False)


def say(model_dir: Path, **changes: Any) -> None:
    path = model_dir / "model.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, **changes}))


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(field, value) for field in ("mean", "std") for value in list[Any]((
            [NAN, 0.4, 0.3], [0.5, INFINITY, 0.3], [0.5, 0.4], [0.5, 0.4, "0.3"], [True, 0.4, 0.3],
            [0.5, 0.4, None], 0.5, {}, None, "0.5", [10**400, 1, 1],
        ))],
        ("std", [0, 0.25, 0.5]),
        ("std", [0.2, -0.25, 0.5]),
        ("std", [0.2, -0.0, 0.5]),
        ("classes", ["a", "b", "a"]),
        ("classes", ["a", ""]),
        ("classes", ["a", " "]),
        ("classes", ["a", 1]),
        ("classes", "ab"),
        ("classes", {"a": 1, "b": 2}),
        ("classes", ["a"]),
        ("classes", []),
        ("image_size", "32"),
        ("image_size", 32.5),
        ("image_size", True),
        ("image_size", 0),
        ("image_size", 10**9),
        ("geometry", {"resize": 8, "crop": 9}),
        ("geometry", {"resize": 8}),
        ("geometry", {"resize": 10**9, "crop": 10**9}),
        ("geometry", {"resize": "8", "crop": 8}),
        ("geometry", [8, 8]),
        ("head_hidden", 5),
        ("head_hidden", [0]),
        ("head_hidden", [1.5]),
        ("head_hidden", ["5"]),
        ("dropout", NAN),
        ("dropout", -0.1),
        ("dropout", "0"),
        ("arch", 5),
        ("arch", ""),
        ("stem", None),
        ("provenance", []),
        ("export", "openvino/model.xml"),
        ("export", {}),
        ("export", {"openvino": "../model.xml"}),
        ("export", {"openvino": "openvino/model.xml", "reference": "0.5"}),
        ("export", {"openvino": "openvino/model.xml", "reference": [0.5, NAN, 0.5]}),
        ("bfloat16", {"images": 3}),
        ("bfloat16", [1]),
        ("bfloat16", {"images": 3, "accuracy": NAN, "float32_accuracy": 1, "same_label": 1,
                      "max_difference": 0}),
        ("int8", {"images": 3}),
        ("int8", "openvino/int8/model.xml"),
        ("int8", {"images": 3, "accuracy": 1, "float32_accuracy": 1, "same_label": 1,
                  "max_difference": 0, "tolerance": 101, "calibration_images": 3}),
        ("sha256", []),
        ("sha256", {"model.safetensors": 5}),
        ("sha256", {"/etc/passwd": "0" * 64}),
        ("sha256", {"../model.safetensors": "0" * 64}),
        ("sha256", {}),
    ],
)  # fmt: skip
def test_an_invalid_field_is_named(model_dir: Path, field: str, value: Any) -> None:
    say(model_dir, **{field: value})
    with pytest.raises(ArtifactError, match=r"model\.json") as refused:
        Artifact.read(model_dir)
    assert field in str(refused.value)
    assert "expected" in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "field", ["arch", "stem", "classes", "geometry", "mean", "std", "image_size"]
)
def test_a_missing_field_is_named(model_dir: Path, field: str) -> None:
    path = model_dir / "model.json"
    stored = json.loads(path.read_text())
    del stored[field]
    path.write_text(json.dumps(stored))
    with pytest.raises(ArtifactError, match=f"{field}: found nothing"):
        Artifact.read(model_dir)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[" * 100_000, b'{"format": true}', b"9" * 9999])
def test_bytes_that_are_not_a_description_are_refused(model_dir: Path, data: bytes) -> None:
    (model_dir / "model.json").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.json") as refused:
        Artifact.read(model_dir)
    assert "\n" not in str(refused.value)


def test_an_artifact_without_checksums_is_read(model_dir: Path) -> None:
    assert Artifact.read(model_dir).checksums is None


def test_checksums_are_case_insensitive(model_dir: Path) -> None:
    say(model_dir, sha256={"model.safetensors": hashlib.sha256(b"").hexdigest().upper()})
    assert Artifact.read(model_dir).checksums
    (model_dir / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="damaged or replaced"):
        Artifact.read(model_dir)


@pytest.mark.parametrize("folder", ["model", "job-1/model", "opt/ml/model"])
def test_an_archive_with_a_folder_around_the_model_is_read(
    model_dir: Path, tmp_path: Path, folder: str
) -> None:
    root = tmp_path / "unpacked"
    shutil.copytree(model_dir, root / folder)
    (root / "__MACOSX").mkdir()
    (root / "._model").write_bytes(b"")
    assert Artifact.read(root).path == root / folder


def test_an_archive_with_two_models_is_refused(model_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "unpacked"
    for name in ("a", "b"):
        shutil.copytree(model_dir, root / name)
    with pytest.raises(
        ArtifactError, match=r"no model\.json; found 'a', 'b', expected .* at the top"
    ):
        Artifact.read(root)
    with pytest.raises(ArtifactError, match=r"no model\.json; found nothing"):
        Artifact.read(tmp_path / "nowhere")


def test_a_reference_for_another_number_of_classes_is_named(tmp_path: Path) -> None:
    model_dir = write_artifact(tmp_path / "exported")
    description = json.loads((model_dir / "model.json").read_text())
    say(model_dir, export=description["export"] | {"reference": [0.5] * 7})
    with pytest.raises(ArtifactError, match=r"export\.reference: found 7 .* expected"):
        Artifact.read(model_dir)
