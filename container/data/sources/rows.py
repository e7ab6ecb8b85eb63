"""The rows of a table of labels: CSV, SageMaker's augmented manifest, MXNet's .lst.

Formats: RFC 4180 with any usual delimiter; "Provide Dataset Metadata to Training Jobs with an
Augmented Manifest File" of the SageMaker developer guide; `im2rec.py --list` of Apache MXNet.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from container.data.label_columns import LABELS, bare, whole
from container.data.sources.image_files import ImageFiles
from container.errors import DataError
from container.files.folders import is_image_name, readable, some, split_of
from container.files.regular import read_regular

FORMATS = (".csv", ".tsv", ".manifest", ".jsonl", ".lst")
"""Suffixes of label files found in a folder; a file given by path may have any."""
LARGEST_TABLE = 256 << 20
"""Largest table of labels, in bytes: some millions of rows."""

PATHS = (
    "path", "filepath", "file", "filename", "fname", "image", "imagepath", "imagefile",
    "imagefilename", "imagename", "imagefilepath", "img", "imgpath", "imgfile", "imgname",
    "imgfilename", "images", "photo", "picture", "uri", "s3uri", "imageuri", "sourceref", "source",
    "imageid", "imgid", "id", "name", "url", "imageurl",
)  # fmt: skip
SPLITS = ("split", "subset", "set", "dataset", "partition", "usage", "phase", "mode", "mluse")

_DELIMITERS = ",;\t|"
_METADATA = "-metadata"
_CHECKED_ROWS = 5
# Rows checked for an existing file, to find the column of paths.


@dataclass(frozen=True)
class Columns:
    """Column names set by the user; None to find a column by its usual names."""

    path: str | None = None
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Row:
    """One image's label; `place` is FILE:LINE, `problem` the reason if it cannot be used."""

    place: str
    images: ImageFiles
    path: str = ""
    label: str = ""
    split: str | None = None
    problem: str | None = None

    def with_split(self, split: str) -> "Row":
        """The same row in a split."""
        return replace(self, split=split)


def read_rows(path: Path, images: ImageFiles, columns: Columns) -> Iterator[Row]:
    """Read the rows of a file in any format, including invalid ones with their problem.

    Args:
        path: the file.
        images: the files that paths refer to.
        columns: the column names set by the user.

    Raises:
        DataError: the file cannot be read or is not UTF-8, or a column cannot be identified.
    """
    shown = readable(str(path))
    try:
        data = read_regular(path, LARGEST_TABLE)
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{shown}:{line}: found bytes that are not UTF-8; save it as UTF-8, or with "
            f"iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{shown}: nothing in it, expected a row an image")
    if lines[0][1].lstrip().startswith("{"):
        return _manifest_rows(lines, shown, images, columns)
    if path.suffix.lower() == ".lst":
        return _list_rows(lines, shown, images)
    return _table_rows(text, shown, images, columns)


def _manifest_rows(
    lines: Sequence[tuple[int, str]], shown: str, images: ImageFiles, columns: Columns
) -> Iterator[Row]:
    for number, line in lines:
        row = Row(f"{shown}:{number}", images)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield replace(row, problem=f"not JSON: {error}")
            continue
        if not isinstance(found, dict):
            yield replace(row, problem="expected a JSON object")
            continue
        yield _manifest_row(row, found, columns)


def _manifest_row(row: Row, found: dict[str, Any], columns: Columns) -> Row:
    key = columns.path or "source-ref"
    path = found.get(key)
    if not isinstance(path, str) or not path:
        return replace(row, problem=f"found no {key}, expected an image's S3 URI or path")
    attributes = [columns.label] if columns.label else _label_attributes(found)
    if len(attributes) != 1:
        what = f"found the labels {some(attributes)}" if attributes else "found no label"
        return replace(
            row, problem=f"{what}, expected one; --label-column names it (of: {some(found)})"
        )
    label = _manifest_label(found, attributes[0])
    if label is None:
        return replace(
            row,
            problem=f"{readable(attributes[0])}: found {readable(_short(found.get(attributes[0])))}"
            ", expected one class, as a name, a number or -metadata's class-name",
        )
    split = _cell(found, columns.split) or next(
        (value for key, value in found.items() if bare(key) in SPLITS and isinstance(value, str)),
        "",
    )
    return _in_split(replace(row, path=path, label=label), split)


def _label_attributes(found: dict[str, Any]) -> list[str]:
    """Attributes with metadata; among several, those that Ground Truth marks as classification."""
    with_metadata = [key for key in found if f"{key}{_METADATA}" in found]
    if len(with_metadata) > 1:
        kind = "classification"
        with_metadata = [
            key
            for key in with_metadata
            if isinstance(about := found[f"{key}{_METADATA}"], dict)
            and str(about.get("type", "")).endswith(kind)
        ] or with_metadata
    if with_metadata:
        return with_metadata
    return [key for key in found if bare(key) in LABELS]


def _manifest_label(found: dict[str, Any], attribute: str) -> str | None:
    about = found.get(f"{attribute}{_METADATA}")
    if isinstance(about, dict) and isinstance(name := about.get("class-name"), str):
        return name.strip() or None
    value = found.get(attribute)
    if isinstance(about, dict) and isinstance(names := about.get("class-map"), dict):
        value = names.get(str(value), value) if not isinstance(value, list | dict) else value
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return whole(str(value))
    return None


def _list_rows(lines: Sequence[tuple[int, str]], shown: str, images: ImageFiles) -> Iterator[Row]:
    for number, line in lines:
        row = Row(f"{shown}:{number}", images)
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 3:
            problem = f"found {len(cells)} columns, expected index, label and path between tabs"
            yield replace(row, problem=problem)
        elif not cells[1] or not cells[2]:
            yield replace(row, problem=f"found no {'path' if cells[1] else 'label'}")
        else:
            yield replace(row, path=cells[2], label=whole(cells[1]))


def _table_rows(text: str, shown: str, images: ImageFiles, columns: Columns) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend(
            (reader.line_num, stripped)
            for cells in reader
            if any(stripped := [cell.strip() for cell in cells])
        )
    except csv.Error as error:
        raise DataError(f"{shown}:{reader.line_num}: not CSV: {error}") from None
    at = _header(rows, shown, images, columns) or _without_header(rows, shown, images)
    first = 1 if at.header else 0
    for number, cells in rows[first:]:
        row = Row(f"{shown}:{number}", images)
        if len(cells) != len(rows[0][1]):
            problem = f"found {len(cells)} columns, expected {len(rows[0][1])}"
            yield replace(row, problem=problem)
            continue
        path, label = cells[at.path], cells[at.label]
        if not path or not label:
            yield replace(row, problem=f"found no {'label' if path else 'path'}")
            continue
        row = replace(row, path=path, label=whole(label))
        yield row if at.split is None else _in_split(row, cells[at.split])


@dataclass(frozen=True)
class _ColumnIndexes:
    """The index of each column."""

    header: bool
    path: int
    label: int
    split: int | None


def _header(
    rows: Sequence[tuple[int, list[str]]], shown: str, images: ImageFiles, columns: Columns
) -> _ColumnIndexes | None:
    """Find the columns by name; None if the first row is not a header."""
    cells = rows[0][1]
    if any(map(is_image_name, cells)):
        return None
    names = [bare(cell) for cell in cells]
    values = [[row[at] if at < len(row) else "" for _, row in rows[1:]] for at in range(len(cells))]

    def find(given: str | None, usual: Sequence[str]) -> list[int]:
        if given is None:
            return [names.index(name) for name in usual if name in names]
        if bare(given) not in names:
            raise DataError(f"{shown}:1: found columns {some(cells)}, expected {given} among them")
        return [names.index(bare(given))]

    splits = [
        at for at in find(columns.split, SPLITS) if columns.split or any(map(split_of, values[at]))
    ]
    split = splits[0] if splits else None
    paths = find(columns.path, PATHS)
    with_files = [at for at in paths if _files(values[at], images)]
    path = next(iter(with_files or paths), None)
    label = next((at for at in find(columns.label, LABELS) if at not in (path, split)), None)
    if path is not None and label is None and len(cells) - (split is not None) == 2:
        # With two columns, the one that is not the path is the label, whatever its name.
        (label,) = (at for at in range(len(cells)) if at not in (path, split))
    if path is None and label is None:
        return None
    if path is None or label is None:
        what = "path" if path is None else "label"
        raise DataError(
            f"{shown}:1: found columns {some(cells)}, and none for the {what} by a usual name; "
            f"name it with --{what}-column"
        )
    return _ColumnIndexes(True, path, label, split)


def _without_header(
    rows: Sequence[tuple[int, list[str]]], shown: str, images: ImageFiles
) -> _ColumnIndexes:
    """Find the columns by content: image names and splits; the remaining one is the label."""
    table = [cells for _, cells in rows if len(cells) == len(rows[0][1])]
    columns = [[cells[at] for cells in table] for at in range(len(rows[0][1]))]
    paths = [at for at, cells in enumerate(columns) if _image_names(cells)] or [
        at for at, cells in enumerate(columns) if _files(cells, images)
    ]
    splits = [
        at for at, cells in enumerate(columns) if at not in paths and all(map(split_of, cells))
    ]
    others = [at for at in range(len(columns)) if at not in (*paths, *splits)]
    if len(columns) == 2 and len(splits) == 1:  # classes may have these names too
        others, splits = splits, []
    if len(others) == 2:  # numbered rows
        others = [at for at in others if not _numbers_rows(columns[at])]
    if len(paths) != 1 or len(others) != 1 or len(splits) > 1:
        raise DataError(
            f"{shown}:{rows[0][0]}: found {some(rows[0][1])}, expected path and label, or a first "
            "row with the columns' names"
        )
    return _ColumnIndexes(False, paths[0], others[0], splits[0] if splits else None)


def _image_names(cells: Sequence[str]) -> bool:
    return sum(map(is_image_name, cells)) * 2 > len(cells)


def _files(cells: Sequence[str], images: ImageFiles) -> bool:
    return any(_is_file(images, name) for name in cells[:_CHECKED_ROWS])


def _is_file(images: ImageFiles, name: str) -> bool:
    return bool(name) and isinstance(images.find(name), Path)


def _numbers_rows(cells: Sequence[str]) -> bool:
    return all(map(str.isdecimal, cells)) and len(set(cells)) == len(cells) > 1


def _in_split(row: Row, name: str) -> Row:
    if not name:
        return row
    split = split_of(name)
    if split is None:
        shown = readable(name)
        return replace(row, problem=f"split: found {shown!r}, expected train, validation or test")
    return replace(row, split=split)


def _delimiter(text: str) -> str:
    first = next(line for line in text.splitlines() if line.strip())
    best = max(_DELIMITERS, key=first.count)
    return best if best in first else " "


def _cell(found: dict[str, Any], key: str | None) -> str:
    value = found.get(key) if key else None
    return value if isinstance(value, str) else ""


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
