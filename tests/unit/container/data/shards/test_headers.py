"""Reading untrusted tars: intact, damaged, truncated and malicious ones."""

import bz2
import gzip
import lzma
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container.data.shards.headers import BadShard, members_of, refusal
from tests.shards import write_shard

FILES = [(f"{number:03d}.jpg", bytes([number]) * (number * 100)) for number in range(20)]
BUFFERING = (512, 1 << 16, 4 << 20)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(tmp_path / "0.tar", FILES)


def found(path: Path, buffering: int = 1 << 16) -> tuple[list[str], str]:
    """Return the names of the readable members, and the error that ended reading."""
    names: list[str] = []
    try:
        names.extend(info.name for info in members_of(path, buffering))
    except BadShard as error:
        return names, str(error)
    return names, ""


@pytest.mark.parametrize("buffering", BUFFERING)
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_places_and_sizes(tmp_path: Path, kind: int, buffering: int) -> None:
    long = "x" * 90 + "/" + "ä" * 45 + ".jpg"
    files = [*FILES, *([] if kind == tarfile.USTAR_FORMAT else [(long * 3, b"long")])]
    path = write_shard(tmp_path / "0.tar", files, kind)
    data = path.read_bytes()
    read = [
        (info.name, data[info.offset_data : info.offset_data + info.size])
        for info in members_of(path, buffering)
    ]
    assert read == files


def test_a_pre_posix_tar(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", FILES[:3], tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    for start in (0, 512, 512 + 1024):
        block = bytearray(data[start : start + 512])
        block[257:265] = bytes(8)
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        data[start : start + 512] = block
    path.write_bytes(data)
    assert found(path) == (["000.jpg", "001.jpg", "002.jpg"], "")


def test_an_empty_tar_has_no_members(tmp_path: Path) -> None:
    assert found(write_shard(tmp_path / "0.tar", [])) == ([], "")


@pytest.mark.parametrize("buffering", BUFFERING)
def test_a_truncated_tar_is_reported(shard: Path, buffering: int) -> None:
    data = shard.read_bytes()
    end = sum(512 + -(-len(content) // 512) * 512 for _, content in FILES)
    for cut in (1, 300, 511, 512, 700, 1024, 5000, 5120, end - 512, end - 1, end, end + 100):
        shard.write_bytes(data[:cut])
        names, why = found(shard, buffering)
        assert why, cut
        assert names == [name for name, _ in FILES][: len(names)]
    shard.write_bytes(data[: end + 512])
    assert found(shard)[1] == "", "one block of zeros is an end"


def test_a_damaged_header_is_reported_and_earlier_members_are_read(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    start = data.index(b"010.jpg")
    data[start] ^= 0xFF
    shard.write_bytes(data)
    names, why = found(shard)
    assert names == [name for name, _ in FILES[:10]]
    assert f"damaged: found no header at byte {start:,}" in why


def test_two_tars_in_one_file(tmp_path: Path, shard: Path) -> None:
    shard.write_bytes(shard.read_bytes() * 2)
    names, why = found(shard)
    assert len(names) == 20
    assert "it goes on after a tar's end at byte" in why


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_tar(shard: Path, pack: Callable[[bytes], bytes]) -> None:
    shard.write_bytes(pack(shard.read_bytes()))
    assert found(shard)[1].startswith("found a compressed tar, expected a plain one")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "found an empty file, expected a tar"),
        (b"x", "no tar: found 1 bytes starting 78, expected a tar's header"),
        (b"<html>" * 200, "no tar: found 1,200 bytes starting 3c 68 74 6d 6c 3e 3c 68"),
        (b"PK\x03\x04" * 200, "no tar: found 800 bytes starting 50 4b 03 04"),
    ],
)
def test_files_that_are_not_tars_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "0.tar").write_bytes(data)
    names, said = found(tmp_path / "0.tar")
    assert names == []
    assert said.startswith(why)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(OSError, match=r"found a pipe \(FIFO\)"):
        list(members_of(tmp_path / "0.tar", 512))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a header with any size in it."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 4 + struct.pack(">q", size) if size < 0 else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "blocks",
    [
        header("back.jpg", -1024),
        header("././@LongLink", -512, tarfile.GNUTYPE_LONGNAME),
        header("././@LongLink", 3 << 30, tarfile.GNUTYPE_LONGNAME),
        header("huge", 3 << 30, tarfile.XHDTYPE),
        header("nested", 0, tarfile.XHDTYPE) * 5000,
        header("pax", 512, tarfile.XHDTYPE) + b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
        .ljust(512, b"\0") + header("sparse", 512) + b"9" * 512,
        header("pax", 512, tarfile.XHDTYPE) + b"20 size=-00000001024\n".ljust(512, b"\0")
        + header("back.jpg", 512),
    ],
    ids=["backwards", "name backwards", "name of 3 GB", "header of 3 GB", "nested headers",
         "sparse map without end", "size in a header backwards"],
)  # fmt: skip
def test_malicious_headers_give_a_one_line_error(tmp_path: Path, blocks: bytes) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(header("ok.jpg", 0) + blocks + bytes(1024))
    with path.open("r+b") as file:
        file.truncate(4 << 30)  # sparse: there is enough to read
    names, why = found(path)
    assert names[:1] == ["ok.jpg"]
    assert "back.jpg" not in names
    assert why.partition("\n")[0] == why != ""


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (special("a.jpg", tarfile.SYMTYPE, "b.jpg"), "found a symbolic link"),
        (special("a.jpg", tarfile.LNKTYPE, "b.jpg"), "found a hard link"),
        (special("a.jpg", tarfile.CHRTYPE), "found a device or a pipe"),
        (special("a.jpg", tarfile.BLKTYPE), "found a device or a pipe"),
        (special("a.jpg", tarfile.FIFOTYPE), "found a device or a pipe"),
        (special("a.jpg", b"D"), "found a member of type b'D'"),
        (special("../a.jpg", tarfile.REGTYPE), "found a path that leads out of the shard"),
        (special("/a.jpg", tarfile.REGTYPE), "found a path that leads out of the shard"),
        (special("\udce9.jpg", tarfile.REGTYPE), "its name is not UTF-8"),
    ],
)
def test_links_special_files_and_unsafe_paths_are_refused(info: tarfile.TarInfo, why: str) -> None:
    assert str(refusal(info)).startswith(why)


def test_a_sparse_file_and_a_large_one() -> None:
    sparse: Any = tarfile.TarInfo("a.jpg")
    sparse.sparse = [(0, 1)]
    assert str(refusal(sparse)).startswith("found a sparse file")
    large = tarfile.TarInfo("a.jpg")
    large.size = (256 << 20) + 1
    assert str(refusal(large)).startswith("found 268,435,457 bytes, expected at most 268,435,456")
    large.size -= 1
    assert refusal(large) is None
