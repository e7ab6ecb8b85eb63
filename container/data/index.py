"""The images of a split and their labels, in class folders or tar shards."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from container.data.members import Members
from container.errors import DataError
from container.files.folders import (
    FolderContents,
    check_class_names,
    contents,
    is_utf8,
    left_out,
    readable,
    same_name,
    some,
)
from container.files.media_types import sniff_media_type
from container.files.regular import HEAD, open_regular, read_bounded, size_of
from container.images.decode import sniff

DIGEST_BYTES = 16
"""Bytes of a file's digest."""

_SMALL = 1 << 20
# Larger files are only read if their first bytes are an image's.


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split.

    Attributes:
        root: the folder of the class folders or shards.
        classes: the class names.
        paths: relative to `root`, with forward slashes, sorted; or `Members` of shards, in order.
        labels: int64 (N,), each an index into `classes`.
        misplaced: files outside class folders, or in a folder inside one; they are not used, and
            `lint` reports them.
        notes: lines about ignored junk files and empty folders.
        digests: uint8 (N, 16), the `content_digest` of each file; None until `lint` has read them.
        unusable: invalid members of shards: name, and a line that starts with the name and has
            the reason.
        streamed: whether the shards are on a mount that streams them (FastFile mode).
    """

    root: Path
    classes: tuple[str, ...]
    paths: Sequence[str]
    labels: npt.NDArray[np.int64]
    misplaced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    digests: npt.NDArray[np.uint8] | None = None
    unusable: tuple[tuple[str, str], ...] = ()
    streamed: bool = False

    @classmethod
    def from_folder(cls, root: Path, classes: Sequence[str] | None = None) -> Self:
        """Read `root`/<class>/<file>; all files are included, because only `lint` decodes them.

        Args:
            root: the folder of the class folders; empty ones are ignored.
            classes: the class order, by default the folders' names, sorted.

        Raises:
            DataError: a class is not in `classes`, a name is not UTF-8, two names differ only in
                case, or the root does not exist or has no class folders.
        """
        if not root.is_dir():
            raise DataError(f"{readable(str(root))}: not a folder, expected one folder per class")
        here = contents(root)
        inside = {name: contents(root / name) for name in here.folders}
        filled = [name for name, inner in inside.items() if inner.files]
        if not filled:
            _raise_no_classes(root, here, inside, classes)
        check_class_names(readable(str(root)), filled)
        order = tuple(classes) if classes is not None else tuple(filled)
        number = {name: label for label, name in enumerate(order)}
        unknown = [name for name in filled if name not in number]
        if unknown:
            raise unknown_classes(root, unknown, order)
        found = sorted(
            (f"{name}/{file}", number[name]) for name in filled for file in inside[name].files
        )
        deeper = [f"{name}/{folder}/" for name in inside for folder in inside[name].folders]
        return cls(
            root=root,
            classes=order,
            paths=tuple(path for path, _ in found),
            labels=np.array([label for _, label in found], dtype=np.int64),
            misplaced=(*here.files, *deeper),
            notes=tuple(_notes(here, inside)),
        )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @property
    def members(self) -> Members | None:
        """The positions of the images in shards; None if each is a file."""
        return self.paths if isinstance(self.paths, Members) else None

    def file(self, position: int) -> Path:
        """The path of the image at `position`. Raises ValueError for a member of a shard."""
        if self.members is not None:
            raise ValueError(f"{self.paths[position]} is a member of a shard")
        return self.root / self.paths[position]

    def read(self, position: int) -> bytes:
        """Read the image at `position`.

        Raises:
            DataError: it cannot be read, is not a regular file, is too large for an image, or is a
                large file that does not start like an image.
        """
        name = readable(self.paths[position])
        if not is_utf8(self.paths[position]):
            raise DataError(f"{name}: its name is not UTF-8: rename it")
        try:
            if self.members is not None:
                size = self.members.size(position)
                if size > _SMALL:
                    _check_head(name, self.members.read(position, HEAD), size)
                return self.members.read(position)
            with open_regular(self.file(position)) as file:
                size = size_of(file)
                if size > _SMALL:
                    _check_head(name, file.read(HEAD), size)
                    file.seek(0)
                return read_bounded(file)
        except OSError as error:
            raise DataError(f"{name}: cannot be read: {error.strerror}") from error

    def counts(self) -> npt.NDArray[np.int64]:
        """Images per class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def spread(self, most: int) -> npt.NDArray[np.int64]:
        """Positions, int64, of at most `most` images, evenly spaced over the classes."""
        count = len(self)
        return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)

    def take(self, positions: npt.NDArray[np.int64] | Sequence[int]) -> "Index":
        """The images at `positions` only, in index order."""
        kept = np.sort(np.asarray(positions, dtype=np.int64))
        return replace(
            self,
            paths=tuple(self.paths[position] for position in kept)
            if self.members is None
            else self.members.take(kept),
            labels=self.labels[kept],
            digests=None if self.digests is None else self.digests[kept],
        )


def content_digest(data: bytes) -> bytes:
    """The digest that identifies a file's content: 16 bytes of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _check_head(name: str, head: bytes, size: int) -> None:
    """Raise DataError unless a large file's first bytes are an image's."""
    if sniff(head) is None and sniff_media_type(head) is None:
        raise DataError(
            f"{name}: not an accepted image: found {size:,} bytes starting {head[:8].hex(' ')}"
        )


def _notes(here: FolderContents, inside: Mapping[str, FolderContents]) -> Iterator[str]:
    unused: dict[str, dict[str, None]] = {}
    for listed in (here, *inside.values()):
        for why, names in listed.notes():
            unused.setdefault(why, {}).update(dict.fromkeys(names))
    unused["empty"] = {f"{name}/": None for name, inner in inside.items() if not inner}
    for why, found in unused.items():
        if found:
            yield left_out(why, found)


def _raise_no_classes(
    root: Path,
    here: FolderContents,
    inside: Mapping[str, FolderContents],
    classes: Sequence[str] | None,
) -> None:
    """Raise DataError for a folder without filled class folders; a held-out split may be empty."""
    shown = readable(str(root))
    deeper = [name for name, inner in inside.items() if inner.folders]
    if deeper:
        raise DataError(
            f"{shown}: found only folders in {some(deeper)}, expected <class>/<image>, or "
            "train, validation and test folders of those"
        )
    if not here.folders:
        what = f"{len(here.files):,} files" if here.files else "nothing"
        table = "; labels in a table or manifest: berth data import" if here.files else ""
        if any(name.lower().endswith(".zip") for name in here.files):
            table = "; berth data fetch folder DEST --from unpacks a zip"
        raise DataError(
            f"{shown}: found {what} and no class folders, expected <class>/<image>, or tar shards"
            f"{table}"
        )
    if classes is None:
        raise DataError(f"{shown}: the class folders are empty, expected images in them")


def unknown_classes(root: Path, unknown: Sequence[str], classes: Sequence[str]) -> DataError:
    """The error for classes that training does not have, with a likely misspelling."""
    like = {same_name(name): name for name in classes}
    for name in unknown:
        if same_name(name) in like:
            return DataError(
                f"{readable(str(root))}: found class {name!r}, training has "
                f"{like[same_name(name)]!r}, which differs only in case, spaces or accents' "
                "encoding: rename one"
            )
    return DataError(
        f"{readable(str(root))}: found class {some(map(repr, unknown))} that training does not "
        f"have, expected only {some(map(repr, classes))}"
    )
