import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from container.data.sources.archive import ArchiveLimits, place_in_splits, unpack
from container.errors import DataError

LIMITS = ArchiveLimits(files=20, file_bytes=1_000, total_bytes=5_000)
GOOD = {
    "set/train/a/1.jpg": b"one",
    "set/valid/a/2.PNG": b"two",
    "set/test/b/3.jpeg": b"three",
    "set/README.txt": b"not an image",
    "__MACOSX/set/train/a/._1.jpg": b"junk",
    "set/train/a/.hidden.jpg": b"junk",
}


def make_zip(path: Path, members: dict[str, bytes], **kinds: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
        for name, mode in kinds.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            bundle.writestr(info, "/etc/passwd")
    return path


def make_tar(path: Path, members: dict[str, bytes], special: list[Any] | tuple[()] = ()) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
        for info in special:
            bundle.addfile(info)
    return path


def written(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


EITHER = pytest.mark.parametrize("make", [make_zip, make_tar], ids=["zip", "tar"])


@EITHER
class TestEitherKind:
    def test_images_go_to_their_splits_and_nothing_else_is_written(
        self, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", GOOD)
        assert unpack(archive, tmp_path / "out", place_in_splits, LIMITS) == 3
        assert written(tmp_path / "out") == {
            "train/a/1.jpg": b"one",
            "validation/a/2.PNG": b"two",
            "test/b/3.jpeg": b"three",
        }

    @pytest.mark.parametrize(
        "name",
        [
            "../train/a/1.jpg",
            "train/../../x/train/a/1.jpg",
            "train/a/..",
            "/train/a/1.jpg",
            "train/a\\..\\..\\1.jpg",
        ],
    )
    def test_a_path_that_climbs_out_is_refused(
        self, name: str, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", {"train/a/0.jpg": b"fine", name: b"evil"})
        with pytest.raises(DataError, match="found an unsafe path"):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)
        assert not any("1.jpg" in path.name for path in tmp_path.rglob("*"))

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({f"train/a/{n}.jpg": b"x" for n in range(21)}, "more than 20 files"),
            ({"train/a/1.jpg": bytes(1_001)}, "1,001 bytes, expected at most 1,000"),
            (
                {f"train/a/{n}.jpg": bytes(999) for n in range(6)},
                "more than 5,000 bytes unpacked",
            ),
            ({f"junk{n}": bytes(999) for n in range(6)}, "more than 5,000 bytes unpacked"),
        ],
    )
    def test_the_limits_hold(
        self, members: dict[str, bytes], message: str, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", members)
        with pytest.raises(DataError, match=message):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)

    def test_two_members_of_one_name_are_refused(
        self, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", {"s/train/a/1.jpg": b"1", "t/train/a/1.jpg": b"2"})
        with pytest.raises(DataError, match="the same file twice"):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)

    @pytest.mark.parametrize("share", [0.0, 0.5])
    def test_a_cut_archive_is_refused(
        self, share: float, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        members = {f"train/a/{n}.jpg": bytes([n] * 900) for n in range(5)}
        archive = make(tmp_path / "x", members)
        data = archive.read_bytes()
        archive.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match="x: not a sound archive: "):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)

    @pytest.mark.usefixtures("make")
    def test_a_missing_archive(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not found, expected an archive"):
            unpack(tmp_path / "x", tmp_path / "out", place_in_splits, LIMITS)

    def test_what_has_no_place_is_said_once(
        self, make: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        archive = make(tmp_path / "x", GOOD | {"set/other/1.jpg": b"x"})
        unpack(archive, tmp_path / "out", place_in_splits, LIMITS)
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition("left out ")[2] for line in lines] == [
            "(not in its place): set/README.txt, set/other/1.jpg",
            "(left by a tool): __MACOSX, .hidden.jpg",
        ]


class TestZip:
    def test_a_name_that_says_it_is_utf8_and_is_not(self, tmp_path: Path) -> None:
        data = make_zip(tmp_path / "x", {"train/a/caf\u00e9.jpg": b"x"}).read_bytes()
        (tmp_path / "x").write_bytes(data.replace("\u00e9".encode(), b"\xe9x"))
        with pytest.raises(DataError, match="x: not a sound archive: a name in it is not UTF-8"):
            unpack(tmp_path / "x", tmp_path / "out", place_in_splits, LIMITS)

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
    def test_links_and_special_files_are_refused(self, kind: int, tmp_path: Path) -> None:
        archive = make_zip(tmp_path / "x", {}, **{"train/a/link.jpg": kind | 0o777})
        with pytest.raises(DataError, match=r"train/a/link\.jpg: found a link or special file"):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)
        assert written(tmp_path / "out") == {}

    def test_an_encrypted_member_is_refused(self, tmp_path: Path) -> None:
        data = bytearray(make_zip(tmp_path / "x", {"train/a/1.jpg": b"x"}).read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(DataError, match="found an encrypted file"):
            unpack(tmp_path / "x", tmp_path / "out", place_in_splits, LIMITS)

    def test_a_member_larger_than_it_says_is_refused(self, tmp_path: Path) -> None:
        data = bytearray(make_zip(tmp_path / "x", {"train/a/1.jpg": bytes(900)}).read_bytes())
        at = data.index(b"PK\x01\x02") + 24
        data[at : at + 4] = (10).to_bytes(4, "little")
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(DataError):
            unpack(tmp_path / "x", tmp_path / "out", place_in_splits, LIMITS)
        assert all(len(content) <= 10 for content in written(tmp_path / "out").values())


class TestTar:
    def test_names_that_are_not_utf8(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        members = {"train/a/1.jpg": b"1", "train/a/caf\udce9.jpg": b"2"}
        archive = make_tar(tmp_path / "x", members)
        assert unpack(archive, tmp_path / "out", place_in_splits, LIMITS) == 1
        assert r"their names are not UTF-8): train/a/caf\xe9.jpg" in capsys.readouterr().out
        archive = make_tar(tmp_path / "y", {"train/caf\udce9/1.jpg": b"1"})
        with pytest.raises(DataError, match=r"train/caf\\xe9/1.jpg: found a folder whose name is"):
            unpack(archive, tmp_path / "out2", place_in_splits, LIMITS)

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_links_and_special_files_are_refused(self, kind: bytes, tmp_path: Path) -> None:
        info = tarfile.TarInfo("train/a/link.jpg")
        info.type, info.linkname = kind, "../../../etc/passwd"
        archive = make_tar(tmp_path / "x", {}, [info])
        with pytest.raises(DataError, match=r"train/a/link\.jpg: found a link or special file"):
            unpack(archive, tmp_path / "out", place_in_splits, LIMITS)


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
