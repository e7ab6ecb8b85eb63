"""Quantizing an existing model to int8 from the command line."""

import shutil
import tarfile
from pathlib import Path

import pytest

from container.artifact import Artifact
from container.quantize import main
from local.archives import unpack
from tests.unit.container.coloured import export_colours


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    return export_colours(tmp_path_factory.mktemp("trained") / "model", image_folder).path


def test_an_int8_graph_is_added_to_an_archive(
    model: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(model, arcname=".")
    output = tmp_path / "int8.tar.gz"
    arguments = [str(archive), str(image_folder / "validation"), "--output", str(output)]
    assert main([*arguments, "--tolerance", "2"]) == 0, capsys.readouterr().err
    (tmp_path / "unpacked").mkdir()
    unpack(output, tmp_path / "unpacked", limit=1 << 20)
    read = Artifact.read(tmp_path / "unpacked")
    assert read.int8 is not None
    assert (read.int8.images, read.int8.calibration_images, read.int8.tolerance) == (6, 6, 2.0)
    assert read.openvino_int8 is not None
    assert Artifact.read(model).int8 is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "int8.tar.gz",
        "model.tar.gz",
        "unpacked",
    ]


def test_too_great_a_loss_of_accuracy_writes_nothing(
    model: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container.precisions.Int8.good_enough", False)
    output = tmp_path / "int8.tar.gz"
    assert main([str(model), str(image_folder / "validation"), "--output", str(output)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_errors_are_one_line(
    model: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = str(image_folder / "validation")
    unexported = tmp_path / "unexported"
    shutil.copytree(model, unexported)
    description = unexported / "model.json"
    description.write_text(description.read_text().replace('"export": {', '"exported": {'))
    (tmp_path / "text.tar.gz").write_text("no archive")
    for given, said in (
        ([str(tmp_path / "nowhere"), photos], "No such file"),
        ([str(tmp_path / "text.tar.gz"), photos], "expected a model.tar.gz or a model directory"),
        ([str(unexported), photos], "holds no OpenVINO graph"),
        ([str(model), str(tmp_path / "photos")], "photos"),
    ):
        assert main([*given, "--output", str(tmp_path / "int8.tar.gz")]) == 1
        error = capsys.readouterr().err
        assert said in error, error
        assert error.count("\n") == 1
    assert not (tmp_path / "int8.tar.gz").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tolerance", "101"], "--tolerance: found 101, expected 0 to 100"),
        (["--output", "nowhere/int8.tar.gz"], "--output: found no folder nowhere"),
        (["--output", "."], "--output: found the folder ., expected a file"),
    ],
)
def test_wrong_usage(
    model: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(model), "photos", "--output", "int8.tar.gz", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
