"""File names for resources, also on case-insensitive file systems."""

import hashlib
from pathlib import Path

DIGITS = 8
"""Hexadecimal digits of the digest that makes a file name unique."""


def file_name(folder: Path, name: str) -> str:
    """The file name in `folder` for a resource's name, which may differ from others in case only.

    On a case-insensitive file system, as on macOS and Windows, a digest is appended to names with
    capital letters.
    """
    if name == name.lower() or not ignores_case(folder):
        return name
    return f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:DIGITS]}"


def ignores_case(path: Path) -> bool:
    """Whether the file system of an existing file or folder is case-insensitive."""
    for named in (path, *path.parents):
        other = named.with_name(named.name.swapcase()) if named.name else named
        if other != named:
            return named.exists() and other.exists() and other.samefile(named)
    return False


def as_on_disk(path: Path) -> Path:
    """An absolute path with the names' case as it is on the disk.

    It is the same for all spellings of a path on a case-insensitive file system.
    """
    found = Path(path.anchor)
    for name in path.parts[1:]:
        if ignores_case(found / name):
            names = [entry.name for entry in found.iterdir()]
            alike = [each for each in names if each.lower() == name.lower()]
            found /= name if name in names or not alike else alike[0]
        else:
            found /= name
    return found
