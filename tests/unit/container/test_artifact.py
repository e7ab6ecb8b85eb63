import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]

from container.artifact import Artifact
from container.errors import ArtifactError, TrainingError
from container.images.geometry import Geometry
from container.models import Classifier
from container.openvino_runtime import core
from container.results.export import write_artifact


@pytest.fixture(scope="module")
def classifier() -> Any:
    """A few layers that are exported fast; test_models_architectures.py has real networks."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return Classifier(nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 2)))


@pytest.fixture
def blank(tmp_path: Path) -> Any:
    return describe(tmp_path / "model")


def describe(path: Any) -> Any:
    return Artifact(
        path=path,
        arch="resnet18",
        stem="small",
        head_hidden=(),
        dropout=0.0,
        image_size=32,
        classes=("ant", "bée"),
        geometry=Geometry.for_size(32),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        export=None,
        provenance={"job": "local"},
    )


def pixels(count: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    artifact = describe(tmp_path_factory.mktemp("exported") / "model")
    write_artifact(artifact, classifier, pixels(3), print)
    return artifact.path


@pytest.fixture
def stored(blank: Any, exported: Any) -> Any:
    shutil.copytree(exported, blank.path)
    return blank.path


def damage(folder: Any, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_written_artifact_is_read(stored: Any, blank: Any) -> None:
    read = Artifact.read(stored)
    assert replace(read, export=None) == blank
    assert read.export["images"] == 3
    assert {path.name for path in stored.iterdir()} == {
        "model.json",
        "model.safetensors",
        "openvino",
    }


def test_the_export_predicts_any_batch_like_pytorch(stored: Any, classifier: Any) -> None:
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    graph = core().compile_model(Artifact.read(stored).openvino, "CPU", options)
    for count in (1, 5):
        images = pixels(count)
        with torch.inference_mode():
            expected = classifier.eval()(torch.from_numpy(images)).numpy()
        assert np.abs(graph(images.astype(np.float32))[0] - expected).max() < 1e-4
    assert graph.input(0).names == {"pixels"}


EXPORTING = """
import importlib.util
import sys
from pathlib import Path
import numpy as np
from torch import nn
from container.artifact import Artifact
from container.models import Classifier
from container.results.export import write_artifact

assert importlib.util.find_spec("openvino_telemetry"), "nothing would be reported anyway"
network = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
artifact = Artifact.read(Path(sys.argv[1]))
assert write_artifact(artifact, network, np.zeros((2, 2, 2, 3), np.uint8), print).openvino
from openvino.tools.ovc.telemetry_utils import tm

print(tm.__name__)
"""


def test_an_export_sends_no_telemetry(stored: Path) -> None:
    # In a separate process: other tests have imported OpenVINO here, with its telemetry.
    command = [sys.executable, "-c", EXPORTING, str(stored)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.split()[-1] == "openvino.tools.ovc.telemetry_stub"


class Branching(nn.Module):
    """A network that branches on its pixels, so it cannot be converted to a graph."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return means if images.sum() > 0 else -means


class Changing(nn.Module):
    """A network that behaves differently once traced or exported."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        converted = is_tracing() or torch.compiler.is_exporting()
        return -means if converted else means


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Branching(), "no OpenVINO export: "),
        (Changing(), "no OpenVINO export: its probabilities differ from PyTorch's by "),
    ],
)
def test_without_an_equal_export_the_artifact_is_still_written(
    blank: Any, network: nn.Module, said: str
) -> None:
    lines: list[str] = []
    artifact = write_artifact(blank, Classifier(network), pixels(3), lines.append)
    assert artifact.openvino is None
    assert [path.name for path in artifact.path.rglob("*") if path.suffix in (".xml", ".bin")] == []
    assert artifact.weights.is_file()
    (line,) = lines
    assert line.startswith(said)


def test_every_file_beside_the_description_has_its_checksum(stored: Any) -> None:
    files = {path.relative_to(stored).as_posix() for path in stored.rglob("*") if path.is_file()}
    checksums = Artifact.read(stored).checksums
    assert checksums is not None
    assert set(checksums) == files - {"model.json"}


@pytest.mark.parametrize("name", ["model.safetensors", "openvino/model.xml", "openvino/model.bin"])
def test_a_changed_byte_is_found(stored: Any, name: str) -> None:
    data = bytearray((stored / name).read_bytes())
    data[len(data) // 2] ^= 1
    (stored / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{name}: damaged or replaced"):
        Artifact.read(stored)
    (stored / name).write_bytes(data[:-5])
    with pytest.raises(ArtifactError, match=f"{name}: damaged or replaced"):
        Artifact.read(stored)
    (stored / name).unlink()
    with pytest.raises(ArtifactError, match="not found"):
        Artifact.read(stored)


def test_writing_again_replaces_everything(stored: Any, blank: Any, classifier: Any) -> None:
    (stored / "openvino" / "stale").write_text("")
    write_artifact(blank, classifier, None, print)
    assert Artifact.read(stored).export is None


def test_without_held_out_images_there_is_no_export(blank: Any, classifier: Any) -> None:
    artifact = write_artifact(blank, classifier, None, print)
    assert artifact.export is None
    assert not (blank.path / "openvino").exists()


def test_all_files_have_the_same_permissions(stored: Any) -> None:
    """A server often runs as another user than the job."""
    modes = {path.stat().st_mode & 0o777 for path in stored.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_a_full_disk_keeps_the_earlier_artifact(
    stored: Any, blank: Any, classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("container.results.export.save_state", full)
    with pytest.raises(TrainingError, match="disk full"):
        write_artifact(blank, classifier, None, print)
    assert {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"classes": ["only"]}, "1 classes, expected at least 2"),
        ({"mean": [1]}, "not an artifact's description"),
        ({"geometry": {}}, "not an artifact's description"),
        ({"image_size": "big"}, "not an artifact's description"),
        ({"bfloat16": {"images": 3}}, "not an artifact's description"),
    ],
)
def test_a_description_with_invalid_values(stored: Any, changes: Any, said: str) -> None:
    damage(stored, **changes)
    with pytest.raises(ArtifactError, match=said):
        Artifact.read(stored)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '"x"', "{"])
def test_a_file_that_is_not_a_description(stored: Any, text: str) -> None:
    (stored / "model.json").write_text(text)
    with pytest.raises(ArtifactError, match="model.json"):
        Artifact.read(stored)


def test_missing_files_are_named(stored: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model.json"):
        Artifact.read(tmp_path / "nowhere")
    (stored / "openvino" / "model.xml").unlink()
    with pytest.raises(ArtifactError, match="names openvino/model.xml, not found"):
        Artifact.read(stored)
    (stored / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="names model.safetensors, not found"):
        Artifact.read(stored)
