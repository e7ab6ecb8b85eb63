"""Unpacks image folders from zip and tar archives whose contents are not trusted."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from container.data.decode import printable
from container.data.progress import Progress
from container.data.splits import TEST, TRAIN, VALIDATION
from container.errors import DataError

Place = Callable[[PurePosixPath], PurePosixPath | None]

_BLOCK = 1 << 20
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SPLIT_OF = {
    name: split
    for split, names in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST))
    for name in names
}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most: files, bytes in one file, bytes in all."""

    files: int
    file_bytes: int
    total_bytes: int


def place_in_splits(path: PurePosixPath) -> PurePosixPath | None:
    """Where an image .../<split>/<class>/<image> goes; None for anything else."""
    if len(path.parts) < 3 or path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
        return None
    if path.parts[0] == "__MACOSX" or path.parts[-3] not in _SPLIT_OF:
        return None
    return PurePosixPath(_SPLIT_OF[path.parts[-3]], *path.parts[-2:])


def unpack_zip(archive: Path, folder: Path, place: Place, limits: Limits) -> int:
    """Write the archive's files where `place` says, below `folder`; how many were written.

    Raises DataError for a damaged archive, more than `limits`, a link, an encrypted member, or
    a path that is absolute or climbs out.
    """
    with _readable(archive), zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        target = _Target(archive, folder, place, limits)
        with Progress(f"unpacking {archive.name}", len(members)) as progress:
            for member in members:
                mode = member.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise target.error(member.filename, "a link or special file")
                if member.flag_bits & 1:
                    raise target.error(member.filename, "an encrypted file")
                where = target.accept(member.filename, member.file_size, member.is_dir())
                if where is not None:
                    with bundle.open(member) as content:
                        target.write(where, content, member.file_size)
                progress.advance()
        return target.written


def unpack_tar(archive: Path, folder: Path, place: Place, limits: Limits) -> int:
    """The same for a tar archive, compressed or not."""
    with _readable(archive), tarfile.open(archive, "r|*") as bundle:
        target = _Target(archive, folder, place, limits)
        with Progress(f"unpacking {archive.name}", 0) as progress:
            for member in bundle:
                if not (member.isreg() or member.isdir()):
                    raise target.error(member.name, "a link or special file")
                where = target.accept(member.name, member.size, member.isdir())
                if where is not None:
                    content = bundle.extractfile(member)
                    assert content is not None, "a regular file has content"  # noqa: S101
                    target.write(where, content, member.size)
                progress.advance()
        return target.written


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{archive}: not found, expected an archive") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        detail = printable(str(error))
        raise DataError(f"{archive}: not a sound archive: {detail}") from error


class _Target:
    """The folder being filled, and what has been spent of the limits."""

    def __init__(self, archive: Path, folder: Path, place: Place, limits: Limits) -> None:
        self._archive, self._folder, self._place, self._limits = archive, folder, place, limits
        self._files = self._bytes = 0
        self.written = 0

    def error(self, name: str, found: str) -> DataError:
        return DataError(
            f"{self._archive}: {printable(name)}: found {found}, expected an ordinary file "
            "inside the archive's own folder"
        )

    def accept(self, name: str, size: int, is_folder: bool) -> Path | None:
        """The file to write, or None to pass over the member; raises when it is not safe."""
        path = PurePosixPath(name)
        if not name or "\0" in name or "\\" in name or path.is_absolute() or ".." in path.parts:
            raise self.error(name, "an unsafe path")
        self._files += 1
        self._bytes += size
        if self._files > self._limits.files:
            raise DataError(f"{self._archive}: more than {self._limits.files:,} files")
        if size > self._limits.file_bytes:
            raise DataError(
                f"{self._archive}: {printable(name)}: {size:,} bytes, "
                f"expected at most {self._limits.file_bytes:,}"
            )
        if self._bytes > self._limits.total_bytes:
            raise DataError(
                f"{self._archive}: more than {self._limits.total_bytes:,} bytes unpacked"
            )
        placed = None if is_folder else self._place(path)
        return None if placed is None else self._folder / placed

    def write(self, where: Path, content: IO[bytes], size: int) -> None:
        """Copy `size` bytes; a member that holds more than it declares is refused."""
        where.parent.mkdir(parents=True, exist_ok=True)
        try:
            with where.open("xb") as file:
                left = size
                while block := content.read(min(_BLOCK, left + 1)):
                    left -= len(block)
                    if left < 0:
                        raise self.error(where.name, "more bytes than declared")
                    file.write(block)
        except FileExistsError as error:
            raise self.error(where.name, "the same file twice") from error
        if left:
            raise self.error(where.name, "fewer bytes than declared")
        self.written += 1
