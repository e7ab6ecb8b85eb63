from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from container.data.sources.archive import place_in_splits, unpack
from container.errors import DataError
from container.files.archives import ArchiveLimits
from tests.unit.container.files.test_archives import EITHER, make_tar

LIMITS = ArchiveLimits(files=20, file_bytes=1_000, total_bytes=5_000)
GOOD = {
    "set/train/a/1.jpg": b"one",
    "set/valid/a/2.PNG": b"two",
    "set/test/b/3.jpeg": b"three",
    "set/README.txt": b"not an image",
    "__MACOSX/set/train/a/._1.jpg": b"junk",
    "set/train/a/.hidden.jpg": b"junk",
}


def written(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@EITHER
class TestEitherKind:
    def test_only_images_are_written_to_their_splits(
        self, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", GOOD)
        assert unpack(archive, tmp_path / "out", place_in_splits, LIMITS) == 3
        assert written(tmp_path / "out") == {
            "train/a/1.jpg": b"one",
            "validation/a/2.PNG": b"two",
            "test/b/3.jpeg": b"three",
        }

    def test_two_members_of_one_name_are_refused(
        self, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", {"s/train/a/1.jpg": b"1", "t/train/a/1.jpg": b"2"})
        with pytest.raises(DataError, match="the same file twice"):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)

    def test_an_unsafe_archive_is_named(self, make: Callable[..., Any], tmp_path: Path) -> None:
        archive = make(tmp_path / "x", {"train/a/0.jpg": b"fine", "../train/a/1.jpg": b"evil"})
        with pytest.raises(DataError, match=r"/x: \.\./train/a/1\.jpg: found an unsafe path"):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)
        assert not any("1.jpg" in path.name for path in tmp_path.rglob("*"))

    @pytest.mark.usefixtures("make")
    def test_a_missing_archive(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not found, expected an archive"):
            unpack(tmp_path / "x", tmp_path / "out", place_in_splits, LIMITS)

    def test_skipped_files_are_reported_once(
        self, make: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        archive = make(tmp_path / "x", GOOD | {"set/other/1.jpg": b"x"})
        unpack(archive, tmp_path / "out", place_in_splits, LIMITS)
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition("left out ")[2] for line in lines] == [
            "(not in its place): set/README.txt, set/other/1.jpg",
            "(left by a tool): __MACOSX, .hidden.jpg",
        ]


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = {"train/a/1.jpg": b"1", "train/a/caf\udce9.jpg": b"2"}
    archive = make_tar(tmp_path / "x", members)
    assert unpack(archive, tmp_path / "out", place_in_splits, LIMITS) == 1
    assert r"their names are not UTF-8): train/a/caf\xe9.jpg" in capsys.readouterr().out
    archive = make_tar(tmp_path / "y", {"train/caf\udce9/1.jpg": b"1"})
    with pytest.raises(DataError, match=r"train/caf\\xe9/1.jpg: found a folder whose name is"):
        unpack(archive, tmp_path / "out2", place_in_splits, LIMITS)


@pytest.mark.parametrize(
    ("path", "placed"),
    [
        ("train/a/1.jpg", "train/a/1.jpg"),
        ("deep/er/val/a/1.webp", "validation/a/1.webp"),
        ("training/a/1.tiff", "train/a/1.tiff"),
        ("a/1.jpg", None),
        ("other/a/1.jpg", None),
        ("train/a/1.txt", None),
        ("train/a/._1.jpg", None),
        ("__MACOSX/train/a/1.jpg", None),
    ],
)
def test_place_in_splits(path: str, placed: str | None) -> None:
    found = place_in_splits(PurePosixPath(path))
    assert found == (PurePosixPath(placed) if placed else None)
