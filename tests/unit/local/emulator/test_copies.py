"""Copies of files are complete, independent and sparse."""

import errno
import os
from pathlib import Path

import pytest

from local.emulator.copies import copy, spread


@pytest.mark.parametrize("content", [b"", b"x", b"ab" * 3_000_000])
@pytest.mark.parametrize("kernel", ["copies", "refuses", "cannot"])
def test_a_copy_is_complete(
    content: bytes, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "another disk")

    if kernel == "refuses":
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    elif kernel == "cannot":  # macOS
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    (tmp_path / "a").write_bytes(content)
    copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_holes_of_sparse_files_are_kept(tmp_path: Path) -> None:
    size = 1 << 30
    with (tmp_path / "a").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(size)
    copy(tmp_path / "a", tmp_path / "b")
    status = (tmp_path / "b").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < size // 100
    with (tmp_path / "b").open("rb") as made:
        made.seek((1 << 20) - 1)
        assert made.read(8) == b"\0middle\0"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_disk_that_does_not_report_holes(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HFS+ on macOS and network drives are examples."""
    seek = os.lseek

    def refuse(file: int, position: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(number, os.strerror(number))
        return seek(file, position, whence)

    monkeypatch.setattr(os, "lseek", refuse)
    with (tmp_path / "a").open("wb") as file:
        file.write(b"begin")
        file.truncate(1 << 20)
    copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_an_executable_file_stays_executable(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o755)
    copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o555


def test_an_incomplete_copy_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "copy_file_range", fill, raising=False)
    with pytest.raises(OSError, match="No space left"):
        copy(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_spread_accepts_any_disk_and_missing_folders(tmp_path: Path) -> None:
    spread(tmp_path)
    spread(tmp_path / "nowhere")
