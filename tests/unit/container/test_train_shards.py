"""Complete jobs on tar shards, in this process."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from container.artifact import Artifact
from container.errors import JobEnded
from tests.shards import Member, shards_of, write_shard


@pytest.fixture
def sharded(image_folder: Path, tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        shards_of(image_folder / split, tmp_path / "shards" / split, 2)
    return tmp_path / "shards"


def webdataset(image_folder: Path, split: str, numbers: dict[str, str]) -> list[Member]:
    """Return KEY.cls and KEY.png of each image, with the classes shuffled."""
    paths = sorted((image_folder / split).rglob("*.png"), key=lambda path: (path.name, path))
    return [
        member
        for key, path in enumerate(paths)
        for member in (
            (f"{key:04d}.cls", numbers[path.parent.name].encode()),
            (f"{key:04d}.png", path.read_bytes()),
        )
    ]


@pytest.mark.parametrize("freeze", [False, True])
def test_the_model_equals_one_trained_on_a_folder(job: Any, sharded: Path, freeze: bool) -> None:
    weights = []
    for options in ({}, {"data": sharded}):
        shutil.rmtree(job.base, ignore_errors=True)
        base = job(epochs=2, freeze=freeze, **options)
        weights.append((base / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_numbers_with_a_file_of_names_and_a_validation_share(
    job: Any, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"blue": "2", "green": "0", "red": "1"}
    folder = tmp_path / "wds" / "train"
    members = webdataset(image_folder, "train", numbers)
    write_shard(folder / "0.tar", members[:30])
    write_shard(folder / "1.tar", [*members[30:], ("9999.png", members[1][1])])
    (folder / "classes.txt").write_text("green\nred\nblue\n")
    base = job(channels=("train",), data=tmp_path / "wds", class_weights="balanced")
    assert Artifact.read(base / "model").classes == ("green", "red", "blue")
    evaluation = json.loads((base / "output" / "data" / "evaluation.json").read_text())
    assert sum(row["support"] for row in evaluation["classes"].values()) == 6
    golden = evaluation["golden"]
    shard, _, member = golden["path"].partition("!")
    with tarfile.open(folder / shard) as archive:
        stored = archive.extractfile(member)
        assert isinstance(stored, io.BufferedReader)
        data = stored.read()
    assert (base / "output" / "data" / golden["file"]).read_bytes() == data
    said = capsys.readouterr().out
    assert "bad image in train: 1.tar!9999.png: found no label, expected 9999.cls" in said


def test_a_member_without_a_class_fails_the_job_if_configured(job: Any, sharded: Path) -> None:
    write_shard(sharded / "train" / "2.tar", [("loose.png", b"")])
    with pytest.raises(JobEnded):
        job(data=sharded, on_bad_image="fail")
    failure = (job.base / "output" / "failure").read_text()
    assert failure.startswith("train: 2.tar!loose.png: found no class, expected CLASS/FILE.jpg")


def test_checkpoints_of_other_labels_are_refused(
    job: Any, image_folder: Path, tmp_path: Path
) -> None:
    numbers = {"blue": "2", "green": "0", "red": "1"}
    folder = tmp_path / "wds"
    for split in ("train", "validation"):
        write_shard(folder / split / "0.tar", webdataset(image_folder, split, numbers))
    job(data=folder)
    members = webdataset(image_folder, "train", numbers | {"red": "0", "green": "1"})
    write_shard(folder / "train" / "0.tar", members)
    with pytest.raises(JobEnded):
        job(data=folder, epochs=2)
    assert (
        "written by another run, with train digest="
        in (job.base / "output" / "failure").read_text()
    )
