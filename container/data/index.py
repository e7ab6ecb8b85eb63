"""Which files there are and which class each belongs to: a folder a class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from container.data.decode import printable
from container.errors import DataError

# What operating systems, archivers and S3 consoles leave behind; dot files are ignored too.
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "lost+found", "icon\r"})


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split.

    `paths` are relative to `root`, with forward slashes, sorted; `labels` is int64 (N,), each an
    index into `classes`. `misplaced` are files that stand in no class folder, or in a folder
    inside one: they are not used, and `lint` says so.
    """

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    misplaced: tuple[str, ...] = ()

    @classmethod
    def from_folder(cls, root: Path, classes: Sequence[str] | None = None) -> Self:
        """Read `root`/<class>/<file>; every file counts until `lint` has looked inside it.

        `classes` fixes the class order (by default the folders' names, sorted); a folder that is
        not among them raises DataError, as do a missing root and one without class folders.
        """
        if not root.is_dir():
            raise DataError(f"{printable(str(root))}: not a folder, expected one folder per class")
        folders, strays = _visible(root)
        if not folders:
            what = f"{len(strays)} files" if strays else "nothing"
            raise DataError(
                f"{printable(str(root))}: found {what} and no class folders, "
                "expected <class>/<image>"
            )
        order = tuple(classes) if classes is not None else tuple(folders)
        number = {name: label for label, name in enumerate(order)}
        unknown = [name for name in folders if name not in number]
        if unknown:
            raise DataError(
                f"{printable(str(root))}: found class {_names(unknown)} that training does not "
                f"have, expected only {_names(order)}"
            )
        found: list[tuple[str, int]] = []
        misplaced = list(strays)
        for name in folders:
            deeper, files = _visible(root / name)
            found += [(f"{name}/{file}", number[name]) for file in files]
            misplaced += [f"{name}/{folder}/" for folder in deeper]
        found.sort()
        return cls(
            root=root,
            classes=order,
            paths=tuple(path for path, _ in found),
            labels=np.array([label for _, label in found], dtype=np.int64),
            misplaced=tuple(misplaced),
        )

    def __len__(self) -> int:
        """How many images."""
        return len(self.paths)

    def file(self, position: int) -> Path:
        """Where the image at `position` is."""
        return self.root / self.paths[position]

    def read(self, position: int) -> bytes:
        """The bytes of the image at `position`. Raises DataError when it cannot be read."""
        try:
            return self.file(position).read_bytes()
        except OSError as error:
            name = printable(self.paths[position])
            raise DataError(f"{name}: cannot be read: {error.strerror}") from error

    def counts(self) -> npt.NDArray[np.int64]:
        """Images per class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def spread(self, most: int) -> npt.NDArray[np.int64]:
        """Positions, int64, of at most so many images, as far apart as can be: of every class."""
        count = len(self)
        return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)

    def take(self, positions: npt.NDArray[np.int64] | Sequence[int]) -> "Index":
        """The images at `positions` only, in index order."""
        kept = np.sort(np.asarray(positions, dtype=np.int64))
        return Index(
            root=self.root,
            classes=self.classes,
            paths=tuple(self.paths[position] for position in kept),
            labels=self.labels[kept],
            misplaced=self.misplaced,
        )


def visible_folders(root: Path) -> list[str]:
    """Names of the folders in `root`, sorted, without hidden ones and junk."""
    return _visible(root)[0]


def _visible(root: Path) -> tuple[list[str], list[str]]:
    folders: list[str] = []
    files: list[str] = []
    for entry in root.iterdir():
        if entry.name.startswith(".") or entry.name.lower() in _JUNK:
            continue
        if entry.name.endswith("_$folder$"):  # how some S3 tools mark an empty prefix
            continue
        (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def _names(names: Iterable[str]) -> str:
    quoted = [repr(printable(name)) for name in names]
    more = f" and {len(quoted) - 5} more" if len(quoted) > 5 else ""
    return ", ".join(quoted[:5]) + more
