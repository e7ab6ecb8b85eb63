import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container.files.archives import ArchiveLimits, BadArchive, leads_out, members
from container.files.folders import readable

NOISE = os.urandom(20_000)
LIMITS = ArchiveLimits(files=20, file_bytes=30_000, total_bytes=100_000)
SMALL = ArchiveLimits(files=20, file_bytes=1_000, total_bytes=5_000)


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


def unpacked(archive: Path, folder: Path, limits: ArchiveLimits = LIMITS) -> dict[str, bytes]:
    for member in members(archive, limits):
        if not member.is_folder:
            member.copy_to(folder / member.path)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


EITHER = pytest.mark.parametrize("make", [make_zip, make_tar], ids=["zip", "tar"])


@EITHER
class TestEitherKind:
    def test_files_are_read_with_their_paths(
        self, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", {"model.json": b"{}", "./deep/weights": NOISE})
        assert unpacked(archive, tmp_path / "out") == {"model.json": b"{}", "deep/weights": NOISE}

    @pytest.mark.parametrize(
        "name", ["../out", "a/../../out", "a/..", "/etc/out", "a\\..\\..\\out"]
    )
    def test_a_path_outside_the_folder_is_refused(
        self, name: str, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", {"fine": b"", name: b"evil"})
        with pytest.raises(BadArchive, match="found an unsafe path"):
            unpacked(archive, tmp_path / "deep" / "out")
        assert not [path for path in tmp_path.rglob("*") if path.name == "out" and path.is_file()]

    @pytest.mark.parametrize(
        ("contents", "message"),
        [
            ({f"{n}": b"x" for n in range(21)}, "more than 20 files"),
            ({"large": bytes(1_001)}, "large: 1,001 bytes, expected at most 1,000"),
            ({f"{n}": bytes(999) for n in range(6)}, "5 does not fit: .* more than 5,000 bytes"),
        ],
    )
    def test_the_limits_are_enforced(
        self, contents: dict[str, bytes], message: str, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", contents)
        with pytest.raises(BadArchive, match=message):
            unpacked(archive, tmp_path / "out", SMALL)

    @pytest.mark.parametrize("cut", [0, 10, -1, -9])
    def test_a_truncated_archive_is_refused(
        self, cut: int, make: Callable[..., Any], tmp_path: Path
    ) -> None:
        archive = make(tmp_path / "x", {"model.json": NOISE})
        archive.write_bytes(archive.read_bytes()[:cut])
        with pytest.raises(BadArchive, match="damaged archive: "):
            unpacked(archive, tmp_path / "out")


class TestZip:
    def test_a_name_falsely_marked_as_utf8_is_refused(self, tmp_path: Path) -> None:
        data = make_zip(tmp_path / "x", {"train/a/caf\u00e9.jpg": b"x"}).read_bytes()
        (tmp_path / "x").write_bytes(data.replace("\u00e9".encode(), b"\xe9x"))
        with pytest.raises(BadArchive, match="damaged archive: a name in it is not UTF-8"):
            unpacked(tmp_path / "x", tmp_path / "out", SMALL)

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
    def test_links_and_special_files_are_refused(self, kind: int, tmp_path: Path) -> None:
        archive = make_zip(tmp_path / "x", {}, **{"train/a/link.jpg": kind | 0o777})
        with pytest.raises(BadArchive, match=r"train/a/link\.jpg: found a link or special file"):
            unpacked(archive, tmp_path / "out", SMALL)

    def test_an_encrypted_member_is_refused(self, tmp_path: Path) -> None:
        data = bytearray(make_zip(tmp_path / "x", {"train/a/1.jpg": b"x"}).read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(BadArchive, match="found an encrypted file"):
            unpacked(tmp_path / "x", tmp_path / "out", SMALL)

    def test_a_member_larger_than_declared_is_refused(self, tmp_path: Path) -> None:
        data = bytearray(make_zip(tmp_path / "x", {"train/a/1.jpg": bytes(900)}).read_bytes())
        at = data.index(b"PK\x01\x02") + 24
        data[at : at + 4] = (10).to_bytes(4, "little")
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(BadArchive):
            unpacked(tmp_path / "x", tmp_path / "out", SMALL)
        assert all(path.stat().st_size <= 10 for path in (tmp_path / "out").rglob("*.jpg"))


class TestTar:
    @pytest.mark.parametrize(
        ("kind", "link", "found"),
        [
            (tarfile.SYMTYPE, "/etc/passwd", "a link"),
            (tarfile.SYMTYPE, "model.json", "a link"),
            (tarfile.LNKTYPE, "model.json", "a link"),
            (tarfile.CHRTYPE, "", "a device or a pipe"),
            (tarfile.FIFOTYPE, "", "a device or a pipe"),
        ],
    )
    def test_links_and_special_files_are_refused(
        self, kind: bytes, link: str, found: str, tmp_path: Path
    ) -> None:
        entry = tarfile.TarInfo("entry")
        entry.type, entry.linkname = kind, link
        archive = make_tar(tmp_path / "x", {"model.json": b"{}"}, [entry])
        with pytest.raises(BadArchive, match=f"entry: found {found}"):
            unpacked(archive, tmp_path / "out")

    def test_nothing_is_written_through_a_link(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive = make_tar(tmp_path / "x", {}, [link, tarfile.TarInfo("a/planted")])
        with pytest.raises(BadArchive, match="found a link"):
            unpacked(archive, tmp_path / "out")
        assert list(outside.iterdir()) == []

    @pytest.mark.parametrize("compression", ["", "bz2", "xz"])
    def test_other_compressions_are_read(self, compression: str, tmp_path: Path) -> None:
        entry = tarfile.TarInfo("a")
        entry.size = len(NOISE)
        with tarfile.open(tmp_path / "x", f"w:{compression}") as bundle:  # type: ignore[call-overload]
            bundle.addfile(entry, io.BytesIO(NOISE))
        assert unpacked(tmp_path / "x", tmp_path / "out") == {"a": NOISE}

    def test_a_changed_byte_is_detected(self, tmp_path: Path) -> None:
        plain = gzip.decompress(make_tar(tmp_path / "x", {"model.json": NOISE}).read_bytes())
        changed = bytearray(gzip.compress(plain, compresslevel=0))
        changed[15_000] ^= 1
        (tmp_path / "x").write_bytes(changed)
        with pytest.raises(BadArchive, match="CRC check failed"):
            unpacked(tmp_path / "x", tmp_path / "out")

    def test_data_after_the_end_is_refused(self, tmp_path: Path) -> None:
        archive = make_tar(tmp_path / "x", {"a": b""})
        archive.write_bytes(archive.read_bytes() + gzip.compress(bytes(100 * 1024**2)))
        with pytest.raises(BadArchive, match="after the archive's end"):
            unpacked(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/a", "a\\b", "a\0b"])
def test_paths_that_lead_outside_the_folder(name: str) -> None:
    assert leads_out(name), readable(name)


def test_paths_that_stay_inside_the_folder() -> None:
    assert not any(map(leads_out, ["a", "a/b", "./a", "..a/b..", "a..b"]))
