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

from container.data.progress import Progress
from container.errors import DataError
from container.files.folders import (
    SPLITS,
    found_both,
    is_image_name,
    is_junk,
    is_utf8,
    left_out,
    readable,
    split_of,
)
from container.images.decode import printable

Place = Callable[[PurePosixPath], PurePosixPath | None]

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most: files, bytes in one file, bytes in all."""

    files: int
    file_bytes: int
    total_bytes: int


def place_in_splits(path: PurePosixPath) -> PurePosixPath | None:
    """Where an image .../<split>/<class>/<image> goes; None for anything else.

    The split may have any of its usual names, and lie in folders of any depth.
    """
    if len(path.parts) < 3 or not is_image_name(path.name) or any(map(is_junk, path.parts)):
        return None
    split = split_of(path.parts[-3])
    return None if split is None else PurePosixPath(split, *path.parts[-2:])


def place_images(path: PurePosixPath) -> PurePosixPath | None:
    """Where every image goes: where the archive has it; None for what is no image."""
    passed = not is_image_name(path.name) or any(map(is_junk, path.parts))
    return None if passed else path


def unpack(archive: Path, folder: Path, place: Place, limits: Limits) -> int:
    """`unpack_zip` or `unpack_tar`, by the archive's first bytes."""
    try:
        is_zip = zipfile.is_zipfile(archive)
    except OSError as error:
        raise DataError(f"{archive}: cannot be read: {error.strerror}") from None
    return (unpack_zip if is_zip else unpack_tar)(archive, folder, place, limits)


def unpack_zip(archive: Path, folder: Path, place: Place, limits: Limits) -> int:
    """Write the archive's files where `place` says, below `folder`; how many were written.

    What it has no place for is said once. Raises DataError for a damaged archive, more than
    `limits`, a link, an encrypted member, a path that is absolute or climbs out, a class whose
    name is not UTF-8, and a split by two names.
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
        target.say_what_was_left_out()
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
        target.say_what_was_left_out()
        return target.written


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{archive}: not found, expected an archive") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{archive}: not a sound archive: a name in it is not UTF-8") from error
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
    ) as error:  # fmt: skip
        detail = printable(str(error))
        raise DataError(f"{archive}: not a sound archive: {detail}") from error


class _Target:
    """The folder being filled, and what has been spent of the limits."""

    def __init__(self, archive: Path, folder: Path, place: Place, limits: Limits) -> None:
        self._archive, self._folder, self._place, self._limits = archive, folder, place, limits
        self._files = self._bytes = 0
        self.written = 0
        self._names: dict[str, str] = {}
        self._left_out: dict[str, dict[str, None]] = {}

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
        return None if is_folder else self._placed(path)

    def _placed(self, path: PurePosixPath) -> Path | None:
        junk = next((part for part in path.parts if is_junk(part)), None)
        placed = self._place(path)
        if placed is None:
            self._leave_out("left by a tool" if junk else "not in its place", junk or str(path))
            return None
        if not is_utf8(str(placed.parent)):
            raise DataError(
                f"{self._archive}: {readable(str(path))}: found a folder whose name is not UTF-8, "
                "expected UTF-8: rename it and pack again"
            )
        if not is_utf8(placed.name):
            self._leave_out("their names are not UTF-8", str(path))
            return None
        if len(path.parts) > 2 and placed.parts[0] in SPLITS:
            name = self._names.setdefault(placed.parts[0], path.parts[-3])
            if name != path.parts[-3] and split_of(path.parts[-3]) == placed.parts[0]:
                raise found_both(str(self._archive), placed.parts[0], [name, path.parts[-3]])
        return self._folder / placed

    def _leave_out(self, why: str, name: str) -> None:
        self._left_out.setdefault(why, {})[name] = None

    def say_what_was_left_out(self) -> None:
        for why, names in self._left_out.items():
            print(f"{readable(str(self._archive))}: {left_out(why, names)}")

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
