"""Images of one folder whose labels are in a table, an augmented manifest or an MXNet list.

berth data import labels.csv photos        # path,label; a column of splits is kept
berth data import train.manifest photos    # JSON Lines: source-ref, label, label-metadata
berth data import train.lst val.lst photos # index, label, path
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from container.data.sources.base import DatasetSource
from container.data.sources.image_files import ImageFiles
from container.data.sources.rows import FORMATS, Columns, Row, read_rows
from container.errors import DataError
from container.files.folders import (
    check_class_names,
    is_junk,
    left_out,
    readable,
    split_of,
)
from container.files.progress import ProgressBar
from container.files.regular import LARGEST, TooLarge, copy_regular, open_regular, size_of

_SHOWN = 20


@dataclass(frozen=True)
class _Image:
    """A row with its image file and the folder for it below the destination."""

    row: Row
    file: Path
    folder: PurePosixPath


class Labels(DatasetSource):
    """Sorts a folder's images into class folders, and into splits if the labels have them.

    Images are hard-linked, or copied with `copy` or if the file system has no links. A row that
    cannot be used is reported with its file and line and skipped; with `strict` it is an error.
    """

    summary = (
        "Images of one folder whose labels are in a table, an augmented manifest or an MXNet list."
    )

    def __init__(
        self,
        labels: Sequence[Path],
        images: Path | None = None,
        *,
        copy: bool = False,
        strict: bool = False,
        path_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
    ) -> None:
        self._labels, self._folder, self._copy, self._strict = labels, images, copy, strict
        self._columns = Columns(path_column, label_column, split_column)
        self._images: dict[Path, ImageFiles] = {}
        self._bad: list[str] = []

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--labels, --images, --copy, --strict, and the columns' names."""
        parser.add_argument(
            "--labels", type=Path, action="append", required=True, metavar="FILE",
            help="a CSV, an augmented manifest or a .lst; repeatable, as train.lst and val.lst",
        )  # fmt: skip
        parser.add_argument(
            "--images",
            type=Path,
            help="the folder of the paths (default: that of the labels)",
        )
        parser.add_argument("--copy", action="store_true", help="copy images instead of linking")
        parser.add_argument("--strict", action="store_true", help="write nothing if any row is bad")
        parser.add_argument("--path-column", help="the column, or manifest key, of the paths")
        parser.add_argument("--label-column", help="the column, or manifest key, of the labels")
        parser.add_argument("--split-column", help="the column, or manifest key, of the splits")

    @property
    def problems(self) -> Sequence[str]:
        """A line for each row that was left out."""
        return self._bad

    def fill(self, folder: Path) -> None:
        """Link or copy each row's image to <class>/ or <split>/<class>/."""
        files = [file for path in self._labels for file in _label_files(path)]
        rows = [row for file in files for row in self._rows(file, several=len(files) > 1)]
        images = list(self._resolve(rows))
        self._print_bad(len(rows))
        if self._strict and self._bad:
            raise DataError(f"{_named(files)}: {len(self._bad):,} bad rows, see above")
        if not images:
            raise DataError(f"{_named(files)}: no row names an image that is there")
        splits = {image.row.split for image in images if image.row.split}
        if splits and "train" not in splits:
            raise DataError(f"{_named(files)}: found {', '.join(sorted(splits))}, expected train")
        check_class_names(_named(files), sorted({image.row.label for image in images}))
        used = {image.file for image in images}
        # Before linking, as the destination may be in this folder.
        for images_of_folder in self._images.values():
            if unused := images_of_folder.unused(used):
                print(left_out(f"{len(unused):,} images that no row names", unused))
        taken: set[str] = set()
        with ProgressBar("linking images", len(images)) as progress:
            for image in images:
                self._place(image, folder, taken)
                progress.advance()

    def _rows(self, file: Path, *, several: bool) -> Iterator[Row]:
        """The rows of one file; among several, a file name such as val.lst gives their split."""
        base = self._folder or file.parent
        if not base.is_dir():
            raise DataError(f"{readable(str(base))}: not a folder, expected the images' own")
        images = self._images.setdefault(base, ImageFiles(base))
        split = _split_of_file(file) if several else None
        for row in read_rows(file, images, self._columns):
            yield row if row.split or not split else row.with_split(split)

    def _resolve(self, rows: Sequence[Row]) -> Iterator[_Image]:
        with_splits = any(row.split for row in rows)
        seen: dict[Path, Row] = {}
        for row in rows:
            found = row.problem or row.images.find(row.path)
            problem = found if isinstance(found, str) else None
            if isinstance(found, Path):
                problem = _unusable(row, found, with_splits=with_splits)
                other = seen.setdefault(found, row)
                if problem is None and other is row:
                    yield _Image(row, found, PurePosixPath(row.split or "", row.label))
                elif problem is None and (other.label, other.split) != (row.label, row.split):
                    problem = f"{readable(row.path)} is {_shown(other)} in {other.place} already"
            if problem is not None:
                self._bad.append(f"{row.place}: {problem}")

    def _place(self, image: _Image, folder: Path, taken: set[str]) -> None:
        target = image.folder / image.file.name
        if _folded(target) in taken:  # two folders below the images' own have a file of this name
            inner = os.path.relpath(image.file, os.path.realpath(image.row.images.folder))
            target = image.folder / inner.replace(os.sep, "_")
        number = 1
        while _folded(target) in taken:
            number += 1
            target = image.folder / f"{image.file.stem}-{number}{image.file.suffix}"
        taken.add(_folded(target))
        where = folder / target
        where.parent.mkdir(parents=True, exist_ok=True)
        if not self._copy:
            try:
                os.link(image.file, where)
            except OSError:  # another file system, or one without links
                pass
            else:
                return
        copy_regular(image.file, where)

    def _print_bad(self, rows: int) -> None:
        for line in self._bad[:_SHOWN]:
            print(line, file=sys.stderr)
        if self._bad:
            count = f"{len(self._bad):,} of {rows:,} rows cannot be used"
            print(f"{count}; --strict writes nothing then", file=sys.stderr)


def _folded(path: PurePosixPath) -> str:
    """A path as a case-insensitive file system compares it."""
    return str(path).casefold()


def _label_files(path: Path) -> list[Path]:
    """The file itself; for a folder, the only label file in it, or its files named for splits."""
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in FORMATS)
    if len(found) > 1:
        found = [each for each in found if _split_of_file(each)]
    if not found:
        raise DataError(
            f"{readable(str(path))}: found no one file of labels, expected its path (of "
            f"{', '.join(FORMATS)})"
        )
    return found


def _split_of_file(file: Path) -> str | None:
    """The split in a file's name: train.lst, flowers_val.csv, test_labels.csv."""
    parts = re.split(r"[\s._-]+", file.stem)
    named = {split for part in (file.stem, *parts) if (split := split_of(part))}
    return named.pop() if len(named) == 1 else None


def _named(files: Sequence[Path]) -> str:
    return ", ".join(readable(str(path)) for path in files)


def _unusable(row: Row, file: Path, *, with_splits: bool) -> str | None:
    """Why a row whose image exists cannot be used; None if it can."""
    if with_splits and not row.split:
        return "found no split, which other rows have"
    if "/" in row.label or "\0" in row.label or is_junk(row.label) or len(row.label.encode()) > 255:
        return f"label '{readable(row.label)}' cannot be the name of a class folder"
    try:
        with open_regular(file) as opened:
            if size_of(opened) > LARGEST:
                raise TooLarge(size_of(opened), LARGEST)
    except OSError as error:
        return f"{readable(row.path)} cannot be read: {error.strerror}"
    return None


def _shown(row: Row) -> str:
    return f"{readable(row.label)} ({row.split})" if row.split else readable(row.label)
