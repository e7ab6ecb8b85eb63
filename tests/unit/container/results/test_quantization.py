"""Quantization of a tiny classifier to int8: when it is kept, and what is logged."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch

from container.artifact import Artifact
from container.data.index import Index
from container.data.loader import EpochLoader
from container.errors import ArtifactError
from container.images.geometry import Geometry
from container.openvino_runtime import core
from container.results.evaluation import EvaluationResult, predict
from container.results.quantization import Quantizer
from tests.unit.container.coloured import SIZE, colours, export_colours


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Artifact:
    """Write the classifier's artifact with an export, to be copied."""
    return export_colours(tmp_path_factory.mktemp("exported") / "model", image_folder)


@pytest.fixture
def artifact(exported: Artifact, tmp_path: Path) -> Artifact:
    shutil.copytree(exported.path, tmp_path / "model")
    return replace(exported, path=tmp_path / "model")


def load(index: Index) -> EpochLoader:
    return EpochLoader(
        index,
        Geometry.for_size(SIZE),
        image_size=SIZE,
        batch_size=8,
        seed=0,
        train=False,
        workers=0,
    )


def quantizer(
    image_folder: Path,
    lines: list[str],
    probabilities: np.ndarray | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Quantizer:
    """Make a quantizer that calibrates on the training images, given float32 `probabilities`."""
    held_out = Index.from_folder(image_folder / "validation")
    if probabilities is None:
        loaded = [
            Geometry.for_size(SIZE).load(held_out.read(at), "") for at in range(len(held_out))
        ]
        probabilities = predict(colours(), np.stack(loaded), torch.device("cpu"))
    evaluation = EvaluationResult(held_out, probabilities)
    return Quantizer(
        Index.from_folder(image_folder / "train"), evaluation, load, lines.append, stopped
    )


def test_an_accurate_graph_is_kept_with_its_checksums(
    artifact: Artifact, image_folder: Path
) -> None:
    lines: list[str] = []
    quantizer(image_folder, lines).add(artifact, 0.5)
    read = Artifact.read(artifact.path)
    assert read.int8 is not None
    assert (read.int8.images, read.int8.calibration_images, read.int8.tolerance) == (12, 36, 0.5)
    assert (read.int8.accuracy, read.int8.float32_accuracy, read.int8.same_label) == (1, 1, 1)
    assert lines == [f"in int8: {read.int8}"]
    assert read.openvino_int8 is not None
    assert read.checksums is not None
    files = {"openvino/int8/model.xml", "openvino/int8/model.bin"}
    assert files < set(read.checksums)
    found = [path.relative_to(read.path).as_posix() for path in read.path.rglob("*")]
    assert not [name for name in found if "/." in name], "something is left over"

    kinds = {each.get_type_name() for each in core().read_model(read.openvino_int8).get_ops()}
    assert "FakeQuantize" in kinds
    weights = read.openvino_int8.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"int8/model\.bin: damaged"):
        Artifact.read(artifact.path)


def test_an_artifact_without_checksums_stays_readable(
    artifact: Artifact, image_folder: Path
) -> None:
    quantizer(image_folder, []).add(replace(artifact, checksums=None), 0.5)
    read = Artifact.read(artifact.path)
    assert read.checksums is None
    assert read.openvino_int8 is not None


def test_an_inaccurate_graph_is_reported_but_not_kept(
    artifact: Artifact, image_folder: Path
) -> None:
    """The evaluation in float32 is perfect; the graph has the classes in reverse order."""
    lines: list[str] = []
    description = artifact.path / "model.json"
    before = set(artifact.path.rglob("*"))
    truth = np.eye(3, dtype=np.float32)[[2] * 4 + [1] * 4 + [0] * 4]
    held_out = Index.from_folder(image_folder / "validation")
    wrong = replace(held_out, labels=held_out.labels[::-1].copy())
    perfect = EvaluationResult(wrong, truth)
    Quantizer(Index.from_folder(image_folder / "train"), perfect, load, lines.append).add(
        artifact, 5.0
    )
    read = Artifact.read(artifact.path)
    assert read.int8 is not None
    assert not read.int8.good_enough
    assert (read.int8.float32_accuracy, read.openvino_int8) == (1.0, None)
    assert set(artifact.path.rglob("*")) == before
    assert json.loads(description.read_text())["int8"]["tolerance"] == 5.0
    assert lines[-1].startswith("int8 is not kept")
    assert "33.33 % in int8 and 100.00 % in float32" in lines[-1]


def no_space(*_given: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("how", ["stopped", "damaged", "without nncf", "full disk"])
def test_failures_are_logged_and_leave_the_model_unchanged(
    artifact: Artifact,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
) -> None:
    lines: list[str] = []
    given = quantizer(image_folder, lines, stopped=lambda: how == "stopped")
    said = "the job is stopping"
    if how == "damaged":
        assert artifact.openvino is not None
        artifact.openvino.write_text("<net/>")
        said = "RuntimeError"
    if how == "without nncf":
        (tmp_path / "nncf.py").write_text("raise ImportError('nncf is not installed')")
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        said = "ImportError: nncf is not installed"
    if how == "full disk":
        monkeypatch.setattr(np, "save", no_space)
        said = "No space left on device"
    before = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
    assert given.add(artifact, 0.5) == artifact
    (line,) = lines
    assert line.startswith(f"no int8: {said}")
    after = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
    assert after == before


def test_the_estimate_includes_the_fixed_cost(artifact: Artifact, image_folder: Path) -> None:
    assert quantizer(image_folder, []).seconds(artifact) > 10


def test_nncf_is_imported_only_in_its_own_process(artifact: Artifact, image_folder: Path) -> None:
    quantizer(image_folder, [], stopped=lambda: True).add(artifact, 0.5)
    assert "nncf" not in sys.modules


def test_a_network_with_attention_is_recognized(tmp_path: Path) -> None:
    from container.results.quantization_process import has_attention

    data = ov.opset13.parameter([1, 4], ov.Type.f32)
    one = ov.opset13.softmax(data, 1)
    two = ov.opset13.softmax(one, 1)
    assert not has_attention(ov.Model([ov.opset13.result(one)], [data]))
    assert has_attention(ov.Model([ov.opset13.result(two)], [data]))
