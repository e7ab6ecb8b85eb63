"""model.tar.gz and output.tar.gz."""

import tarfile
from pathlib import Path, PurePosixPath

import pytest

from local.emulator.training.archive import (
    model_files,
    output_files,
    pack,
    upload,
    upload_plain,
    walk,
)
from local.s3_location import Location
from tests.unit.local.emulator.fakes import BUCKET, FakeObjects


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{folder.name} {name}")
    return folder


def test_the_models_of_all_hosts_are_merged_and_the_first_host_takes_precedence(
    tmp_path: Path,
) -> None:
    one = write(tmp_path / "algo-1", "model/a", "model/b/c")
    two = write(tmp_path / "algo-2", "model/a", "model/d")
    assert model_files([one, two]) == {
        PurePosixPath("a"): one / "model/a",
        PurePosixPath("b/c"): one / "model/b/c",
        PurePosixPath("d"): two / "model/d",
    }


def test_outputs_of_hosts_with_equal_names_are_kept_separate(tmp_path: Path) -> None:
    one = write(tmp_path / "algo-1", "output/data/a", "output/tensors/t")
    two = write(tmp_path / "algo-2", "output/data/a", "output/data/b", "output/failure")
    files = output_files([("algo-1", one), ("algo-2", two)])
    assert sorted(str(name) for name in files) == ["algo-2/data/a", "data/a", "data/b", "failure"]
    assert files[PurePosixPath("data/a")] == one / "output/data/a"


def test_without_files_there_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "output" / "data").mkdir(parents=True)
    (tmp_path / "output" / "failure").touch()
    assert output_files([("algo-1", tmp_path)]) == {}


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    for name in ("x", "y"):
        tree = write(tmp_path / name, "model/a", "model/b/c")
        for path in walk(tree / "model"):
            path.write_text("same")
        pack(model_files([tree]), tmp_path / f"{name}.tar.gz", 6)
    assert (tmp_path / "x.tar.gz").read_bytes() == (tmp_path / "y.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert tar.getnames() == ["a", "b/c"]
        assert {(entry.uid, entry.uname) for entry in tar} == {(0, "")}


def test_an_archive_is_uploaded_and_its_temporary_file_removed(tmp_path: Path) -> None:
    objects = FakeObjects(tmp_path / "s3")
    tree = write(tmp_path / "algo-1", "model/a")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    upload(objects, model_files([tree]), Location(BUCKET, "out/model.tar.gz"), scratch)
    upload(objects, {}, Location(BUCKET, "out/output.tar.gz"), scratch)
    assert objects.names() == ["out/model.tar.gz"]
    assert list(scratch.iterdir()) == []


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path) -> None:
    objects = FakeObjects(tmp_path / "s3")
    objects.full = True
    tree = write(tmp_path / "algo-1", "model/a")
    with pytest.raises(OSError, match="No space left"):
        upload(objects, model_files([tree]), Location(BUCKET, "model.tar.gz"), tree)
    assert not (tree / "model.tar.gz").exists()


def test_an_uncompressed_model_is_uploaded_file_by_file(tmp_path: Path) -> None:
    objects = FakeObjects(tmp_path / "s3")
    tree = write(tmp_path / "algo-1", "model/a", "model/b/c")
    (tree / "model" / "latest").symlink_to("a")
    upload_plain(objects, model_files([tree]), Location(BUCKET, "out/model/"))
    assert objects.names() == ["out/model/a", "out/model/b/c"]


def test_links_are_kept_as_links_and_never_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "outside", "secret")
    tree = tmp_path / "algo-1"
    (tree / "model").mkdir(parents=True)
    (tree / "model" / "folder").symlink_to(secret)
    (tree / "model" / "file").symlink_to(secret / "secret")
    (tree / "output").symlink_to(secret)
    pack(model_files([tree]), tmp_path / "model.tar.gz", 0)
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert [(entry.name, entry.issym()) for entry in tar] == [("file", True), ("folder", True)]
    assert output_files([("algo-1", tree)]) == {}


def test_a_folder_that_is_a_link_is_treated_as_empty(tmp_path: Path) -> None:
    write(tmp_path / "outside", "secret")
    (tmp_path / "model").symlink_to(tmp_path / "outside")
    assert list(walk(tmp_path / "model")) == []
    assert list(walk(tmp_path / "nothing")) == []
