"""The images of a split and their labels: a folder a class, or members of tar shards."""

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
# Files up to this size are read whatever their first bytes.


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split.

    `paths` are relative to `root`, with forward slashes, sorted, or `Members` of shards in `root`,
    in the order in which they lie; `labels` is int64 (N,), each an index into `classes`.
    `misplaced` are files outside class folders, or in a folder inside one: they are not used, and
    `lint` reports them. `unusable` are members of shards that cannot be used: name, and a line
    that begins with it and says why. `notes` are lines on junk files and empty folders that are
    left out. `digests` is uint8 (N, 16), a digest of each file's bytes as `content_digest` gives
    it, where `lint` has read them; None before. `streamed` says that the shards come through a
    mount that streams them (FastFile mode).
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
        """Read `root`/<class>/<file>; every file counts until `lint` has decoded it.

        `classes` fixes the class order (by default the folders' names, sorted). A folder without
        files is no class. Raises DataError for one that is not among `classes`, for names that are
        not UTF-8 or differ only in case, for a missing root, and for one without class folders.
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
        """How many images."""
        return len(self.paths)

    @property
    def members(self) -> Members | None:
        """Where the images lie in shards; None where each is a file."""
        return self.paths if isinstance(self.paths, Members) else None

    def file(self, position: int) -> Path:
        """Where the image at `position` is; a ValueError where it is no file of its own."""
        if self.members is not None:
            raise ValueError(f"{self.paths[position]} is a member of a shard")
        return self.root / self.paths[position]

    def read(self, position: int) -> bytes:
        """The bytes of the image at `position`.

        Raises DataError when it cannot be read, is no regular file, or is too large for an image.
        Of a large file whose first bytes are not an image's, no more is read.
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
    """The digest by which files are told apart: 16 bytes of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _check_head(name: str, head: bytes, size: int) -> None:
    """Raise DataError unless a large file's first bytes are an image's."""
    if sniff(head) is None and sniff_media_type(head) is None:
        raise DataError(
            f"{name}: not an accepted image: found {size:,} bytes starting {head[:8].hex(' ')}"
        )


def _notes(here: FolderContents, inside: Mapping[str, FolderContents]) -> Iterator[str]:
    unused: dict[str, dict[str, None]] = {}
    for found_ in (here, *inside.values()):
        for why, names in found_.notes():
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
