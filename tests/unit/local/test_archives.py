import io
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from container.files.archives import BadArchive
from local import archives
from local.archives import unpack

LIMIT = 1_000_000


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def tar(
    *members: tarfile.TarInfo, content: bytes = b"", mode: Literal["w", "w:gz"] = "w:gz"
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:
        for entry in members:
            entry.size = len(content) if entry.isreg() else 0
            bundle.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "deep" / "folder"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive.tar.gz"


def test_files_and_folders_are_written(archive: Path, folder: Path) -> None:
    members = (member("empty", tarfile.DIRTYPE), member("model.json"), member("./deep/weights"))
    archive.write_bytes(tar(*members, content=b"123"))
    unpack(archive, folder, limit=LIMIT)
    assert (folder / "empty").is_dir()
    assert (folder / "model.json").read_bytes() == b"123"
    assert (folder / "deep/weights").read_bytes() == b"123"


def test_an_unsafe_member_is_refused(tmp_path: Path, archive: Path, folder: Path) -> None:
    archive.write_bytes(tar(member("model.json"), member("../out")))
    with pytest.raises(BadArchive, match="out: found an unsafe path"):
        unpack(archive, folder, limit=LIMIT)
    assert not (tmp_path / "deep/out").exists()


def test_a_file_larger_than_the_limit_is_not_written(archive: Path, folder: Path) -> None:
    archive.write_bytes(tar(member("zeros"), content=bytes(2 * LIMIT)))
    with pytest.raises(BadArchive, match="zeros: 2,000,000 bytes, expected at most 1,000,000"):
        unpack(archive, folder, limit=LIMIT)
    assert list(folder.iterdir()) == []


def test_the_limit_counts_all_files_together(archive: Path, folder: Path) -> None:
    archive.write_bytes(tar(member("a"), member("b"), member("c"), content=bytes(400)))
    with pytest.raises(BadArchive, match="c does not fit"):
        unpack(archive, folder, limit=1000)


def test_the_number_of_entries_is_limited(
    archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 2)
    archive.write_bytes(tar(member("a"), member("b"), member("c")))
    with pytest.raises(BadArchive, match="more than 2 files"):
        unpack(archive, folder, limit=LIMIT)


def test_a_tar_that_is_not_compressed_is_refused(archive: Path, folder: Path) -> None:
    archive.write_bytes(tar(member("a"), mode="w"))
    with pytest.raises(BadArchive, match="gzip"):
        unpack(archive, folder, limit=LIMIT)


def test_the_last_of_two_members_with_one_name_is_kept(archive: Path, folder: Path) -> None:
    first, last = member("a"), member("a")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for entry, content in ((first, b"first"), (last, b"last")):
            entry.size = len(content)
            bundle.addfile(entry, io.BytesIO(content))
    archive.write_bytes(buffer.getvalue())
    unpack(archive, folder, limit=LIMIT, read_only=True)
    assert (folder / "a").read_bytes() == b"last"


def test_modes_are_not_taken_from_the_archive(archive: Path, folder: Path) -> None:
    entry = member("a")
    entry.mode = 0o4777
    archive.write_bytes(tar(entry))
    unpack(archive, folder, limit=LIMIT)
    assert (folder / "a").stat().st_mode & 0o7111 == 0


def test_read_only_files_stay_executable(archive: Path, folder: Path) -> None:
    program, data = member("program"), member("data")
    program.mode, data.mode = 0o755, 0o644
    archive.write_bytes(tar(program, data))
    unpack(archive, folder, limit=LIMIT, read_only=True)
    assert (folder / "program").stat().st_mode & 0o777 == 0o555
    assert (folder / "data").stat().st_mode & 0o777 == 0o444
