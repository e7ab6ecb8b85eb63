"""The names of numbered classes, in a file beside the shards."""

import json
from pathlib import Path

from container.errors import DataError
from container.files.folders import readable, some
from container.files.regular import read_regular

FILES = (
    "classes.txt", "classes.json", "class_names.txt", "class_names.json", "classnames.txt",
    "classnames.json", "labels.txt", "labels.json", "class_to_idx.json",
)  # fmt: skip
"""What such a file may be called, in any case."""
LARGEST = 16 << 20
"""Bytes of such a file."""


def is_class_file(name: str) -> bool:
    """Whether a file's name is one of those."""
    return name.casefold() in FILES


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The name of each class number, by the file in a folder of shards; None without any.

    A text has a name a line, from number 0 on; JSON is a list of names, or an object of names by
    number or of numbers by name (torchvision's `class_to_idx`).

    Raises:
        DataError: it cannot be read, holds something else, or the folder has two of them.
    """
    found = sorted(path for path in folder.iterdir() if is_class_file(path.name))
    if len(found) > 1:
        names = " and ".join(readable(path.name) for path in found)
        raise DataError(f"{readable(str(folder))}: found both {names}, expected one of them")
    return _read(found[0]) if found else None


def _read(path: Path) -> tuple[str, ...]:
    shown = readable(str(path))
    try:
        text = read_regular(path, LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{shown}: found bytes that are not UTF-8, expected UTF-8") from None
    if path.suffix.lower() == ".json":
        names = _of_json(text, shown)
    else:
        names = [line.strip() for line in text.strip().splitlines()]
    if not names:
        raise DataError(f"{shown}: found no names in it, expected one a line, from class 0 on")
    for number, name in enumerate(names):
        if not name or not name.isprintable():
            raise DataError(f"{shown}: found {name[:40]!r} as class {number}, expected a name")
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if seen.setdefault(name, number) != number:
            raise DataError(
                f"{shown}: found {name!r} as class {seen[name]} and {number}, expected each name "
                "once"
            )
    return tuple(names)


def _of_json(text: str, shown: str) -> list[str]:
    expected = "expected a list of names, or an object of names by number or numbers by name"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown}: not JSON: {error}, {expected}") from None
    if isinstance(found, dict):
        names = found
        if all(_is_number(value) for value in found.values()):
            names = {value: name for name, value in found.items()}
        elif all(key.isascii() and key.isdecimal() for key in found):
            names = {int(key): name for key, name in found.items()}
        if len(names) < len(found) or names.keys() != set(range(len(found))):
            numbers = some(map(str, names))
            raise DataError(
                f"{shown}: found classes {numbers}, expected numbers from 0 on without a gap"
            )
        found = [names[number] for number in range(len(found))]
    if not isinstance(found, list) or not found or not all(isinstance(n, str) for n in found):
        raise DataError(f"{shown}: found {type(found).__name__}, {expected}")
    return [name.strip() for name in found]


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
