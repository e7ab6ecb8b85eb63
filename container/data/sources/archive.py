"""Unpacks image folders from zip and tar archives whose contents are not trusted."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

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
from container.files.progress import ProgressBar
from container.images.decode import printable

Placement = Callable[[PurePosixPath], PurePosixPath | None]
"""A member's path in the archive to its path in the destination; None leaves it out."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class ArchiveLimits:
    """The most an archive may hold: files, bytes in one file, bytes in all."""

    files: int
    file_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class _Member:
    """A file or folder of either format; `refused` is what it is if that is never unpacked."""

    name: str
    size: int
    is_folder: bool
    open: Callable[[], IO[bytes]]
    refused: str | None


def place_in_splits(path: PurePosixPath) -> PurePosixPath | None:
    """Place an image .../<split>/<class>/<image> at the top; leave out everything else.

    The split may have any of its usual names, and lie in folders of any depth.
    """
    if len(path.parts) < 3 or not is_image_name(path.name) or any(map(is_junk, path.parts)):
        return None
    split = split_of(path.parts[-3])
    return None if split is None else PurePosixPath(split, *path.parts[-2:])


def place_images(path: PurePosixPath) -> PurePosixPath | None:
    """Place every image at its path in the archive; leave out everything else."""
    passed = not is_image_name(path.name) or any(map(is_junk, path.parts))
    return None if passed else path


def unpack(archive: Path, folder: Path, placement: Placement, limits: ArchiveLimits) -> int:
    """Write the files of a zip or tar archive to their placement below `folder`.

    What has no placement is printed, one line a reason.

    Returns:
        How many files were written.

    Raises:
        DataError: the archive is damaged or exceeds `limits`, or holds a link, an encrypted
            member, a path that is absolute or leads out of it, a class whose name is not UTF-8,
            or a split by two names.
    """
    with _archive_errors(archive), ExitStack() as stack:
        if zipfile.is_zipfile(archive):
            bundle = stack.enter_context(zipfile.ZipFile(archive))
            members, total = _zip_members(bundle), len(bundle.infolist())
        else:
            members, total = _tar_members(stack.enter_context(tarfile.open(archive, "r|*"))), 0
        progress = stack.enter_context(ProgressBar(f"unpacking {archive.name}", total))
        target = _Target(archive, folder, placement, limits)
        for member in members:
            target.add(member)
            progress.advance()
    target.print_left_out()
    return target.written


def _zip_members(bundle: zipfile.ZipFile) -> Iterator[_Member]:
    for info in bundle.infolist():
        refused = None
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            refused = "a link or special file"
        elif info.flag_bits & 1:
            refused = "an encrypted file"
        yield _Member(
            info.filename,
            info.file_size,
            info.is_dir(),
            lambda info=info: bundle.open(info),  # type: ignore[misc]
            refused,
        )


def _tar_members(bundle: tarfile.TarFile) -> Iterator[_Member]:
    for info in bundle:
        refused = None if info.isreg() or info.isdir() else "a link or special file"
        yield _Member(
            info.name,
            info.size,
            info.isdir(),
            lambda info=info: cast(IO[bytes], bundle.extractfile(info)),  # type: ignore[misc]
            refused,
        )


@contextmanager
def _archive_errors(archive: Path) -> Iterator[None]:
    """Raise DataError for what the libraries raise of a file that cannot be read or is damaged."""
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

    def __init__(
        self, archive: Path, folder: Path, placement: Placement, limits: ArchiveLimits
    ) -> None:
        self._archive, self._folder, self._limits = archive, folder, limits
        self._placement = placement
        self._files = self._bytes = 0
        self.written = 0
        self._names: dict[str, str] = {}
        self._left_out: dict[str, dict[str, None]] = {}

    def add(self, member: _Member) -> None:
        """Write a member that has a placement. Raises DataError for one that is not safe."""
        if member.refused is not None:
            raise self._error(member.name, member.refused)
        path = self._checked(member)
        destination = None if member.is_folder else self._destination(path)
        if destination is not None:
            with member.open() as content:
                self._write(destination, content, member.size)

    def print_left_out(self) -> None:
        for why, names in self._left_out.items():
            print(f"{readable(str(self._archive))}: {left_out(why, names)}")

    def _error(self, name: str, found: str) -> DataError:
        return DataError(
            f"{self._archive}: {printable(name)}: found {found}, expected an ordinary file "
            "inside the archive's own folder"
        )

    def _checked(self, member: _Member) -> PurePosixPath:
        """The member's path, once it and the sizes so far are within bounds."""
        name, path = member.name, PurePosixPath(member.name)
        if not name or "\0" in name or "\\" in name or path.is_absolute() or ".." in path.parts:
            raise self._error(name, "an unsafe path")
        self._files += 1
        self._bytes += member.size
        if self._files > self._limits.files:
            raise DataError(f"{self._archive}: more than {self._limits.files:,} files")
        if member.size > self._limits.file_bytes:
            raise DataError(
                f"{self._archive}: {printable(name)}: {member.size:,} bytes, "
                f"expected at most {self._limits.file_bytes:,}"
            )
        if self._bytes > self._limits.total_bytes:
            raise DataError(
                f"{self._archive}: more than {self._limits.total_bytes:,} bytes unpacked"
            )
        return path

    def _destination(self, path: PurePosixPath) -> Path | None:
        junk = next((part for part in path.parts if is_junk(part)), None)
        placed = self._placement(path)
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

    def _write(self, destination: Path, content: IO[bytes], size: int) -> None:
        """Copy `size` bytes. Raises DataError for a member that holds more or fewer."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            with destination.open("xb") as file:
                left = size
                while block := content.read(min(_BLOCK, left + 1)):
                    left -= len(block)
                    if left < 0:
                        raise self._error(destination.name, "more bytes than declared")
                    file.write(block)
        except FileExistsError as error:
            raise self._error(destination.name, "the same file twice") from error
        if left:
            raise self._error(destination.name, "fewer bytes than declared")
        self.written += 1
