"""Finds the folder of a model by its URL, without reading anything outside the models' root."""

import os
import stat
from pathlib import Path, PurePosixPath

from serve.errors import BadRequest, one_line

MAX_URL = 1024
MAX_FILES = 1000
"""Most files and folders of one model; a training job writes five."""

MAX_DESCRIPTION = 16 << 20
"""Largest JSON file in bytes: ten thousand classes with long names take 1 MiB."""

_EXPECTED = "expected the folder of a model that SageMaker unpacked, below the models' directory"


def model_folder(root: Path, url: str) -> Path:
    """The folder that `url` names: a path below `root`, without symbolic links in it.

    Raises:
        BadRequest: it is not a folder below `root`, or has anything but files and folders.
    """
    folder = root / _below(root, url)
    try:
        for path in (*reversed(folder.relative_to(root).parents[:-1]), folder.relative_to(root)):
            if not stat.S_ISDIR((root / path).lstat().st_mode):
                raise _wrong(url)
        _check_content(folder)
    except FileNotFoundError:
        raise _wrong(url, "no such folder") from None
    except OSError as error:
        raise _wrong(url, (error.strerror or "an unreadable folder").lower()) from None
    return folder


def _below(root: Path, url: str) -> PurePosixPath:
    """`url` relative to `root`, without touching the file system below it."""
    if not url.isprintable() or len(url) > MAX_URL:
        raise _wrong(url)
    path = PurePosixPath(url)
    for base in (root, Path(os.path.realpath(root))):
        if path.is_relative_to(base) and path != PurePosixPath(base) and ".." not in path.parts:
            return path.relative_to(base)
    raise _wrong(url)


def _check_content(folder: Path) -> None:
    pending, seen = [folder], 0
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                seen += 1
                name = one_line(Path(entry.path).relative_to(folder).as_posix())
                if seen > MAX_FILES:
                    raise BadRequest(f"the model: expected at most {MAX_FILES:,} files")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    kind = "a symbolic link" if entry.is_symlink() else "a special file"
                    raise BadRequest(f"the model's {name}: found {kind}, expected a file")
                elif name.endswith(".json") and entry.stat().st_size > MAX_DESCRIPTION:
                    raise BadRequest(
                        f"the model's {name}: found {entry.stat().st_size:,} bytes, expected at "
                        f"most {MAX_DESCRIPTION:,}"
                    )


def _wrong(url: str, found: str = "") -> BadRequest:
    shown = repr(one_line(url))
    return BadRequest(f"url: found {shown}{f' ({found})' if found else ''}, {_EXPECTED}")
