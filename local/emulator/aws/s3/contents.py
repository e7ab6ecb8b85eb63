"""The bytes of S3 objects: one read-only file per object, which never changes.

A file is written under a temporary name and renamed, and a replaced object gets a new file, so open
and linked files never change.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BLOCK = 1024 * 1024
"""Bytes copied at a time, so many that the cost of the system call is negligible."""
READ_ONLY = 0o444


@dataclass(frozen=True)
class Content:
    """A complete file.

    Attributes:
        path: its path.
        size: its size in bytes.
        md5: its hex digest; None if it was not computed (joined parts).
    """

    path: Path
    size: int
    md5: str | None

    @property
    def name(self) -> str:
        """Its name, for `Contents.find`."""
        return self.path.name

    def open(self, begin: int = 0, end: int | None = None) -> "Body":
        """Open it, or a range of its bytes; it stays readable if the object is deleted.

        Raises:
            FileNotFoundError: it was deleted in the meantime.
        """
        last = self.size if end is None else end
        return Body(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), begin, last)

    def digest(self) -> str:
        """The MD5 of its bytes, in hex."""
        if self.md5 is not None:
            return self.md5
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest()


class Body:
    """An open file, or a range of it, as a response body that is read while it is sent."""

    def __init__(self, descriptor: int, begin: int, end: int) -> None:
        self._descriptor, self._begin, self._end = descriptor, begin, end

    def __len__(self) -> int:
        """The number of bytes."""
        return self._end - self._begin

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes in blocks."""
        position = self._begin
        while position < self._end:
            block = os.pread(self._descriptor, min(BLOCK, self._end - position), position)
            if not block:
                raise OSError(f"the file ends at {position}, before its {self._end} bytes")
            position += len(block)
            yield block

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        """Close the file of a response that was never sent."""
        self.close()


class Contents:
    """The folder of the files."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / "content"
        self._incoming = folder / "incoming"
        for path in (self._files, self._incoming):
            path.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self._files / f"{number:02x}").mkdir(exist_ok=True)

    def find(self, name: str, size: int, md5: str | None) -> Content:
        """The file with this name."""
        return Content(self._place(name), size, md5)

    def write(self, blocks: Iterable[bytes]) -> Content:
        """Write blocks to a new file.

        Raises:
            OSError: the disk is full. No file is left, also not if `blocks` raises.
        """
        digest, size = _md5(), 0
        with self._new() as (path, file):
            for block in blocks:
                file.write(block)
                digest.update(block)
                size += len(block)
        return Content(path, size, digest.hexdigest())

    def copy(self, source: Path) -> Content:
        """Store a copy of a file."""
        with source.open("rb") as file:
            return self.write(iter(lambda: file.read(BLOCK), b""))

    def share(self, content: Content) -> Content:
        """Store the same bytes under a new name, as a hard link if the disk supports them.

        Raises:
            FileNotFoundError: it was deleted in the meantime.
        """
        path = self._place(uuid.uuid4().hex)
        place(content.path, path)
        return Content(path, content.size, content.digest())

    def join(self, parts: Iterable[Content], size: int) -> Content:
        """Concatenate files, in order; the MD5 is not computed."""
        with self._new() as (path, file):
            for part in parts:
                with part.path.open("rb") as source:
                    shutil.copyfileobj(source, file, BLOCK)
        return Content(path, size, None)

    def remove(self, name: str) -> None:
        """Delete a file if it exists."""
        self._place(name).unlink(missing_ok=True)

    def sweep(self, keep: Callable[[str], bool]) -> int:
        """Delete files left by a killed server, except those to keep; return their number."""
        removed = 0
        for folder in [self._incoming, *self._files.iterdir()]:
            with os.scandir(folder) as files:
                names = [file.name for file in files]
            for name in names:
                if folder == self._incoming or not keep(name):
                    (folder / name).unlink(missing_ok=True)
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _new(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """A new file's path, and the file to write, which is moved there when the block ends."""
        draft = self._incoming / uuid.uuid4().hex
        final = self._place(draft.name)
        try:
            with draft.open("xb") as file:
                yield final, file
            draft.chmod(READ_ONLY)
            draft.rename(final)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _place(self, name: str) -> Path:
        return self._files / name[:2] / name


def place(source: Path, path: Path) -> None:
    """Put a file at `path`, read-only: a hard link, or a copy if it is on another disk.

    An existing file is replaced; the parent folders must exist.
    """
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except OSError as error:
        # Another disk, too many links, or links that the file system or the kernel forbids.
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
            raise
        try:
            shutil.copyfile(source, path)
            path.chmod(READ_ONLY)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _md5() -> "hashlib._Hash":
    # For ETags, not for security: allowed where policy forbids MD5.
    return hashlib.md5(usedforsecurity=False)
