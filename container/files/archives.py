"""Reads untrusted zip and tar archives: data sets, models, and outputs of jobs.

Only regular files and folders are accepted, at paths inside the target folder and within limits. A
compressed tar is read to its end, where its checksum is.
"""

import bz2
import gzip
import itertools
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from container.errors import BerthError
from container.files.folders import readable

_CHUNK = 1 << 20
_PADDING = 64
"""Chunks of padding accepted after the end of a tar."""
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
"""The first bytes of a compressed tar, and the function that opens it."""


class BadArchive(BerthError):
    """An archive is damaged, too large or unsafe; the message does not name the archive."""


@dataclass(frozen=True)
class ArchiveLimits:
    """The most an archive may hold: number of files, bytes per file, total bytes."""

    files: int
    file_bytes: int
    total_bytes: int

    def within(self, folder: Path) -> "ArchiveLimits":
        """The same limits, with at most as many bytes as the folder's disk has free."""
        return replace(self, total_bytes=min(self.total_bytes, shutil.disk_usage(folder).free))


@dataclass(frozen=True)
class Member:
    """A file or folder of an archive.

    Attributes:
        path: its path, relative to the archive's root.
        size: its size in bytes.
        is_folder: whether it is a folder.
        executable: whether its owner may execute it.
    """

    path: PurePosixPath
    size: int
    is_folder: bool
    executable: bool
    _open: Callable[[], IO[bytes]]

    def copy_to(self, file: Path) -> None:
        """Write the content to a new file.

        Raises:
            BadArchive: it is damaged, or has more or fewer bytes than declared.
            FileExistsError: the file exists already.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        left = self.size
        with _one_line_errors(), self._open() as content, file.open("xb") as copy:
            while block := content.read(min(_CHUNK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                copy.write(block)
        if left:
            raise _refused(str(self.path), f"{'fewer' if left > 0 else 'more'} bytes than declared")


def members(archive: Path, limits: ArchiveLimits) -> Iterator[Member]:
    """Yield every file and folder of a zip or tar; copy each before requesting the next.

    Raises:
        BadArchive: the archive is damaged or exceeds the limits, or holds a link, a device, an
            encrypted file, or a path that is absolute or leads out of it.
        FileNotFoundError: there is no such file.
    """
    with _one_line_errors():
        found = _of_zip(archive) if zipfile.is_zipfile(archive) else _of_tar(archive)
        total = 0
        for count, member in enumerate(found, 1):
            total += member.size
            if count > limits.files:
                raise BadArchive(f"more than {limits.files:,} files")
            if member.size > limits.file_bytes:
                raise BadArchive(
                    f"{readable(str(member.path))}: {member.size:,} bytes, expected at most "
                    f"{limits.file_bytes:,}"
                )
            if total > limits.total_bytes:
                raise BadArchive(
                    f"{readable(str(member.path))} does not fit: the archive unpacks to more than "
                    f"{limits.total_bytes:,} bytes, the limit or what this disk has left"
                )
            yield member


def leads_out(name: str) -> bool:
    """Whether a path is unsafe: it could point outside its folder on some operating system."""
    absolute = not name or name.startswith("/")
    return absolute or ".." in name.split("/") or "\0" in name or "\\" in name


def is_gzip(archive: Path) -> bool:
    """Whether a file starts with gzip's signature."""
    with archive.open("rb") as file:
        return _COMPRESSED.get(file.read(2)) is gzip.open


def _of_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(info.filename, "a link or special file")
            if info.flag_bits & 1:
                raise _refused(info.filename, "an encrypted file")
            yield Member(
                _safe(info.filename),
                info.file_size,
                info.is_dir(),
                bool(mode & 0o100),
                lambda info=info: bundle.open(info),  # type: ignore[misc]
            )


def _of_tar(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as file:
        reader: Any = _COMPRESSED.get(file.read(2), Path.open)
    with reader(archive, "rb") as plain:
        with tarfile.open(fileobj=plain, mode="r|") as bundle:
            for info in bundle:
                if info.issym() or info.islnk():
                    raise _refused(
                        info.name, "a link (add files with tar --dereference --hard-dereference)"
                    )
                if not (info.isreg() or info.isdir()):
                    raise _refused(info.name, "a device or a pipe")
                yield Member(
                    _safe(info.name),
                    info.size,
                    info.isdir(),
                    bool(info.mode & 0o100),
                    lambda info=info: cast(IO[bytes], bundle.extractfile(info)),  # type: ignore[misc]
                )
        for count in itertools.count():  # the checksum is at the end
            if not plain.read(_CHUNK):
                break
            if count > _PADDING:
                raise BadArchive("found data after the archive's end")


def _safe(name: str) -> PurePosixPath:
    if leads_out(name):
        raise _refused(name, "an unsafe path, which leads out of the folder")
    return PurePosixPath(name)


def _refused(name: str, found: str) -> BadArchive:
    return BadArchive(
        f"{readable(name)}: found {found}; expected an ordinary file inside the archive's own "
        "folder"
    )


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn the libraries' errors for a damaged file into BadArchive."""
    try:
        yield
    except UnicodeDecodeError:
        raise BadArchive("damaged archive: a name in it is not UTF-8") from None
    except (
        tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError,
        EOFError, NotImplementedError,
    ) as error:  # fmt: skip
        raise BadArchive(f"damaged archive: {readable(str(error))}") from None
