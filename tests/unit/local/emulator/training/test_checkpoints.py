"""Folders synchronised to S3 while a container writes to them."""

import os
from pathlib import Path

import pytest

from local.emulator.training.checkpoints import Mirror, Mirrors
from local.s3_location import Location
from tests.unit.local.emulator.fakes import BUCKET, FakeObjects

PLACE = Location(BUCKET, "job/checkpoints")


@pytest.fixture
def objects(tmp_path: Path) -> FakeObjects:
    return FakeObjects(tmp_path / "s3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints"
    path.mkdir()
    return path


@pytest.fixture
def mirror(objects: FakeObjects, folder: Path) -> Mirror:
    return Mirror(objects, folder, PLACE)


def test_a_file_is_uploaded_once_it_has_stopped_changing(
    mirror: Mirror, objects: FakeObjects, folder: Path
) -> None:
    (folder / "epoch").write_text("1")
    assert mirror.sync() == 0
    (folder / "epoch").write_text("1, and more")
    assert mirror.sync() == 0
    assert mirror.sync() == 1
    assert objects.read(BUCKET, "job/checkpoints/epoch") == b"1, and more"
    assert mirror.sync() == 0


def test_a_changed_file_is_uploaded_again(
    mirror: Mirror, objects: FakeObjects, folder: Path
) -> None:
    for text in ("1", "2"):
        (folder / "epoch").write_text(text)
        os.utime(folder / "epoch", ns=(0, int(text)))
        mirror.sync()
        mirror.sync()
    assert objects.read(BUCKET, "job/checkpoints/epoch") == b"2"


def test_the_last_sync_uploads_at_once(mirror: Mirror, objects: FakeObjects, folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "epoch").write_text("1")
    assert mirror.sync(settled=True) == 1
    assert objects.names() == ["job/checkpoints/deep/epoch"]


def test_deleted_files_stay_in_s3(mirror: Mirror, objects: FakeObjects, folder: Path) -> None:
    (folder / "epoch").write_text("1")
    mirror.sync(settled=True)
    (folder / "epoch").unlink()
    mirror.sync(settled=True)
    assert objects.names() == ["job/checkpoints/epoch"]


def test_links_are_left_out(mirror: Mirror, objects: FakeObjects, folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    assert mirror.sync(settled=True) == 0


def test_checkpoints_in_s3_are_restored_as_copies(
    mirror: Mirror, objects: FakeObjects, folder: Path
) -> None:
    objects.add("job/checkpoints/a/epoch", "7")
    objects.add("job/checkpoints-of-another", "no")
    assert mirror.restore() == 1
    (folder / "a" / "epoch").write_text("8")
    assert objects.read(BUCKET, "job/checkpoints/a/epoch") == b"7"
    assert [path.name for path in folder.rglob("*")] == ["a", "epoch"]


def test_restored_files_are_not_uploaded_again(
    mirror: Mirror, objects: FakeObjects, folder: Path
) -> None:
    objects.add("job/checkpoints/epoch", "7")
    mirror.restore()
    assert mirror.sync(settled=True) == 0


def test_a_key_that_leads_outside_the_folder_is_refused(
    mirror: Mirror, objects: FakeObjects
) -> None:
    objects.add("job/checkpoints/../../../x")
    with pytest.raises(OSError, match="its key is not a valid path"):
        mirror.restore()


def test_a_deleted_bucket_is_reported_only_at_the_end(
    objects: FakeObjects, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "epoch").write_text("1")
    mirrors = Mirrors([Mirror(objects, folder, Location("nowhere", "c"))])
    for _ in range(4):
        mirrors.tick()
    assert len(caplog.records) == 1
    with pytest.raises(OSError, match="no such bucket: nowhere"):
        mirrors.finish()
