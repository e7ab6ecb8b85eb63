"""Opens only regular files of bounded size.

A folder of images may contain a pipe, a socket, a device or a huge sparse file; opening or reading
it would block a job or exhaust its memory.
"""

import errno
import os
import shutil
import stat
from io import BufferedReader
from pathlib import Path

LARGEST = 256 << 20
"""Bytes of one image file: 64 megapixels of uncompressed RGB are 192 MB."""
HEAD = 4096
"""Bytes to check before reading a whole file."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a device",
}


class NotRegular(OSError):
    """The path is not a regular file; `strerror` names its type."""

    def __init__(self, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        super().__init__(errno.EINVAL, f"found {kind}, expected a regular file")


class TooLarge(OSError):
    """The file is too large; `strerror` names its size."""

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(errno.EFBIG, f"found {size:,} bytes, expected at most {largest:,}")


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; never opens a pipe or device.

    Raises:
        NotRegular: it is not a regular file.
        OSError: it cannot be opened.
    """
    _check(path.stat())
    # O_NONBLOCK: it may have become a pipe in the meantime.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def size_of(file: BufferedReader) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_regular(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a regular file.

    Raises:
        NotRegular: it is not a regular file.
        TooLarge: it has more than `largest` bytes; nothing was read.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return read_bounded(file, largest)


def read_bounded(file: BufferedReader, largest: int = LARGEST) -> bytes:
    """The remaining bytes of an open file. Raises TooLarge as `read_regular` does."""
    size = size_of(file)
    if size > largest:
        raise TooLarge(size, largest)
    data = file.read(size + 1)  # allocates no more than the file's size; it may have grown since
    if len(data) > largest:
        raise TooLarge(len(data), largest)
    return data


def copy_regular(source: Path, target: Path, largest: int = LARGEST) -> None:
    """Copy a regular file's bytes to a new file. Raises as `read_regular` does."""
    with open_regular(source) as file:
        size = size_of(file)
        if size > largest:
            raise TooLarge(size, largest)
        with target.open("xb") as copy:
            shutil.copyfileobj(file, copy)


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(found.st_mode)
