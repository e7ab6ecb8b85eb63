"""Inputs of a batch transform: S3 objects of a prefix or manifest, split into requests."""

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import unquote, urlparse

from local.emulator.ports import Objects
from local.s3_location import BadLocation, Location

MB = 1024**2


class BadInput(Exception):
    """An input cannot be listed, read or split; one line without the object's name."""


@dataclass(frozen=True)
class Item:
    """One object to transform.

    Attributes:
        name: path of its output below the output path, without `.out`.
        source: the object, or a local file.
    """

    name: str
    source: Location | Path

    def __str__(self) -> str:
        """`bucket/key`, as in AWS's log."""
        if isinstance(self.source, Path):
            return str(self.source)
        return f"{self.source.bucket}/{self.source.key}"

    @contextmanager
    def open(self, objects: Objects, folder: Path, *, unzip: bool) -> Iterator[IO[bytes]]:
        """Open it for reading.

        Args:
            objects: S3.
            folder: a folder for a temporary link to the object.
            unzip: whether to decompress it with gzip.

        Raises:
            BadInput: it no longer exists.
        """
        path = self.source if isinstance(self.source, Path) else folder / "object"
        try:
            if isinstance(self.source, Location):
                path.unlink(missing_ok=True)
                objects.link(self.source.bucket, self.source.key, path)
            file = path.open("rb")
        except (KeyError, FileNotFoundError):
            raise BadInput("it is not there any more") from None
        if isinstance(self.source, Location):
            path.unlink()  # the open file stays readable
        with file:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if unzip else file


def list_items(objects: Objects, source: dict[str, Any]) -> list[Item]:
    """The objects of an S3DataSource: a prefix's by key, a manifest's in its order.

    Raises:
        BadInput: there are none, two have the same output, or the source is not supported.
    """
    kind, uri = source["S3DataType"], source["S3Uri"]
    if kind not in {"S3Prefix", "ManifestFile"}:
        raise BadInput(f"S3DataType {kind} cannot be used locally")
    parsed = urlparse(uri)
    if parsed.scheme == "file" and kind == "S3Prefix":
        items = _files(Path(unquote(parsed.path)))
    else:
        try:
            place = Location.parse(uri)
        except BadLocation as error:
            raise BadInput(str(error)) from None
        items = _prefix(objects, place) if kind == "S3Prefix" else _manifest(objects, place)
    if not items:
        raise BadInput(f"no objects found at {uri}")
    names = [item.name for item in items]
    if len(set(names)) < len(names):
        raise BadInput(f"two objects of {uri} would be written to the same output")
    return items


def requests_of(file: IO[bytes], *, lines: bool, single: bool, limit: int) -> Iterator[bytes]:
    """Split an object into request bodies, in order.

    Args:
        file: the object's content.
        lines: split it at line ends; otherwise it is one request.
        single: one line per request; otherwise as many as fit.
        limit: most bytes per request; 0 for no limit.

    Raises:
        BadInput: a record is larger than the limit, or the gzip data is invalid.
    """
    try:
        if not lines:
            body = file.read(limit + 1 if limit else -1)
            _check(body, limit)
            yield body
        else:
            yield from _batches(file, single=single, limit=limit)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"it is not whole gzip data: {error}") from None


def _batches(file: IO[bytes], *, single: bool, limit: int) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for line in _lines(file, limit):
        record = line.removesuffix(b"\n")
        _check(record, limit)
        if single:
            yield record
            continue
        if batch and limit and size + len(record) + 1 > limit:
            yield b"\n".join(batch)
            batch, size = [], 0
        batch.append(record)
        size += len(record) + (1 if len(batch) > 1 else 0)
    if batch:
        yield b"\n".join(batch)


def _lines(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines with their line ends; cut a line that exceeds the limit."""
    return iter(lambda: file.readline(limit + 2 if limit else -1), b"")


def _check(record: bytes, limit: int) -> None:
    if limit and len(record) > limit:
        raise BadInput(f"Too much data for max payload size of {limit // MB} MB")


def _prefix(objects: Objects, prefix: Location) -> list[Item]:
    """All objects whose key starts with the prefix, named relative to the prefix's folder."""
    folder = prefix.key if prefix.key.endswith("/") or not prefix.key else f"{prefix.key}/"
    above = prefix.key[: prefix.key.rfind("/") + 1]
    items = []
    for stored in objects.keys(prefix.bucket, prefix.key):
        if not stored.key.endswith("/"):
            start = folder if stored.key.startswith(folder) else above
            items.append(Item(stored.key[len(start) :], Location(prefix.bucket, stored.key)))
    return items


def _manifest(objects: Objects, place: Location) -> list[Item]:
    """The objects in a manifest: `[{"prefix": "s3://bucket/some/"}, "a", "b", …]`."""
    try:
        first, *names = json.loads(objects.read(place.bucket, place.key))
        base = Location.parse(first["prefix"])
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    except KeyError:
        raise BadInput(f"there is no manifest at {place}, or it names no prefix") from None
    except (ValueError, TypeError, BadLocation):
        raise BadInput(
            f'{place} is no manifest; expected [{{"prefix": "s3://…"}}, "name", …]'
        ) from None
    known = {stored.key for stored in objects.keys(base.bucket, base.key)}
    for missing in itertools.filterfalse(lambda name: base.key + name in known, names):
        raise BadInput(f"{place} lists {base}{missing}, which is not there")
    return [Item(name, Location(base.bucket, base.key + name)) for name in names]


def _files(path: Path) -> list[Item]:
    if path.is_file():
        return [Item(path.name, path)]
    found = sorted(one for one in path.rglob("*") if one.is_file())
    return [Item(str(PurePosixPath(one.relative_to(path))), one) for one in found]
