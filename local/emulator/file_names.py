"""Names of resources as names of files, on disks that take `Cat` and `cat` for one name, too."""

import hashlib
from pathlib import Path

DIGITS = 8
"""Hexadecimal digits of a digest that tell two such names apart."""


def file_name(folder: Path, name: str) -> str:
    """A file's name below `folder` for a name that may differ from another's in case only.

    It is the name itself, but where the disk ignores case, as a Mac's and a Windows drive do, and
    the name has capitals: there its digest follows.
    """
    if name == name.lower() or not ignores_case(folder):
        return name
    return f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:DIGITS]}"


def ignores_case(path: Path) -> bool:
    """Whether the disk that an existing file or folder lies on takes `Cat` and `cat` for one."""
    for named in (path, *path.parents):
        other = named.with_name(named.name.swapcase()) if named.name else named
        if other != named:
            return named.exists() and other.exists() and other.samefile(named)
    return False


def as_on_disk(path: Path) -> Path:
    """An absolute path with its names written as they are on the disk.

    Where case is ignored one folder has many paths; this is the one that all of them give.
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
