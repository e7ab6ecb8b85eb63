"""The members of one tar that is not trusted, by its headers alone, without their data.

    for info in members_of(path, buffering=1 << 16):
        ...                                # tarfile.TarInfo: name, offset_data, size

The format is POSIX.1-2001's ustar and pax, and GNU's extensions, as `tarfile` reads them. Memory
does not grow with the number of members.
"""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from container.files.archives import leads_out
from container.files.folders import is_utf8
from container.files.regular import HEAD, LARGEST, open_regular, size_of

LARGEST_HEADER = 1 << 20
"""Bytes of an extended header; a path has 4,096 at most (PATH_MAX)."""
PADDING = 1 << 20
"""Bytes after a tar's end that are looked at: its last record's padding, by default 10 KiB."""

_BLOCK = 512
_ENDS = 8
# Reads at the file's end after which a header is taken to have none.


class BadShard(Exception):
    """A shard is damaged, cut short or no tar; one line that says what was found and expected."""


class CompressedShard(BadShard):
    """A shard is compressed as a whole."""


def members_of(path: Path, buffering: int) -> Iterator[tarfile.TarInfo]:
    """Every member, in the order in which they lie.

    Args:
        path: the tar.
        buffering: bytes that are read at once; data that is shorter than them is not skipped, but
            read over.

    Raises:
        BadShard: it is no whole tar; after the members that could be read.
        OSError: it cannot be read.
    """
    with _HeaderReader(open_regular(path).detach(), buffering) as file:
        size = size_of(file)
        _refuse_other_files(file.peek(HEAD)[:HEAD], size)
        yield from _members(file, size)


def refusal(info: tarfile.TarInfo) -> str | None:
    """Why a member cannot be used, whatever it is called; None when it can."""
    if info.issym():
        return "found a symbolic link, expected a file (tar --dereference)"
    if info.islnk():
        return "found a hard link, expected a file (tar --hard-dereference)"
    if info.ischr() or info.isblk() or info.isfifo():
        return "found a device or a pipe, expected a file"
    if info.issparse():
        return "found a sparse file, expected one stored whole (tar without --sparse)"
    if not info.isreg():
        return f"found a member of type {info.type!r}, expected a file"
    if not is_utf8(info.name):
        return "its name is not UTF-8: rename it"
    if leads_out(info.name):
        return "found a path that leads out of the shard, expected one within it"
    if info.size > LARGEST:
        return f"found {info.size:,} bytes, expected at most {LARGEST:,} in an image"
    return None


class _HeaderReader(BufferedReader):
    """A file of which `tarfile` reads headers: never many bytes, nor forever at its end."""

    _ended = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = super().read(size)
        if not data:
            self._ended += 1
            if self._ended > _ENDS:
                raise tarfile.ReadError("a header that goes on after the end")
        return data


def _members(file: BufferedReader, size: int) -> Iterator[tarfile.TarInfo]:
    last = ""
    with _as_bad_shard(lambda: f"damaged after {last}" if last else "no tar"):
        archive = tarfile.open(fileobj=file, mode="r:", errors="surrogateescape")  # noqa: SIM115
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            if info.size < 0 or archive.offset <= info.offset:
                raise tarfile.ReadError(f"a size of {info.size}")
            if info.isreg() and not info.issparse() and info.offset_data + info.size > size:
                raise BadShard(
                    f"cut short within {info.name}: found {max(0, size - info.offset_data):,} "
                    f"bytes of it, expected {info.size:,}"
                )
            yield info
            last = info.name
            if archive.offset > size:
                raise BadShard(
                    f"cut short after {last}: it ends at byte {size:,}, expected the next header "
                    f"at byte {archive.offset:,}"
                )
        end = archive.offset
    _check_end(file, end, size)


def _refuse_other_files(head: bytes, size: int) -> None:
    if not head:
        raise BadShard("found an empty file, expected a tar")
    if head.startswith(
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
    ):
        raise CompressedShard(
            "found a compressed tar, expected a plain one, in which an image can be read at its "
            "place; images are compressed already"
        )
    if size < _BLOCK or (head[257:262] != b"ustar" and not _is_old_header(head)):
        raise BadShard(
            f"no tar: found {size:,} bytes starting {head[:8].hex(' ')}, expected a tar's header"
        )


def _is_old_header(head: bytes) -> bool:
    """Whether a header of before POSIX, or the end of an empty tar, comes first."""
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return not any(head[:_BLOCK])
    return True


def _check_end(file: BufferedReader, end: int, size: int) -> None:
    """Raise BadShard unless a tar ends at `end` as the format has it, with a block of zeros.

    `tarfile` takes a damaged header, as well as the end of the file, for the tar's end.
    """
    file.seek(end)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise BadShard(
            f"cut short: it ends at byte {size:,} without a tar's end, expected two blocks of zeros"
        )
    if any(block):
        raise BadShard(f"damaged: found no header at byte {end:,}; what follows it is not used")
    rest = file.read(PADDING)
    if any(rest):
        raise BadShard(
            f"it goes on after a tar's end at byte {end:,}, as tars that were put together do; "
            "expected one tar: unpack them and pack anew"
        )


@contextmanager
def _as_bad_shard(where: Callable[[], str]) -> Iterator[None]:
    """Raise BadShard for what `tarfile` raises of damage."""
    try:
        yield
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise BadShard(f"{where()}: {error}; what follows is not used") from None
