"""Model data, fetched from S3 or a local file for `/opt/ml/model`."""

import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from container.files.archives import BadArchive, leads_out
from local.archives import unpack
from local.emulator.copies import copy
from local.emulator.ports import Objects
from local.s3_location import Location

VOLUME_GB = 30
"""Default volume size in GB, as on AWS: the limit for unpacked model data."""


class BadModelData(Exception):
    """Model data is missing, too large or unsafe; the message is one line with its URI."""


def source_of(container: dict[str, Any]) -> dict[str, str] | None:
    """The location of a container definition's model data; None if it has none.

    Returns:
        `uri`; `type`: `archive` (a gzip-compressed tar), `prefix`, `object`, or `models`, the
        prefix of a multi-model endpoint's archives.
    """
    if container.get("Mode") == "MultiModel":
        return {"uri": container["ModelDataUrl"], "type": "models"}
    nested = container.get("ModelDataSource", {}).get("S3DataSource")
    url = container.get("ModelDataUrl")
    if nested is None:
        return None if not url else {"uri": url, "type": "archive"}
    if nested["CompressionType"] == "Gzip":
        kind = "archive"
    else:
        kind = "prefix" if nested["S3DataType"] == "S3Prefix" else "object"
    return {"uri": nested["S3Uri"], "type": kind}


def fetch(
    objects: Objects, source: dict[str, str] | None, folder: Path, *, limit_gb: int = VOLUME_GB
) -> None:
    """Create `folder` and fetch a model's files into it.

    It stays empty without a source, and for a multi-model endpoint, which loads models later.

    Raises:
        BadModelData: the files are missing, too large or unsafe.
    """
    folder.mkdir(parents=True)
    if source is None or source["type"] == "models":
        return
    uri, kind = source["uri"], source["type"]
    limit = limit_gb * 1024**3
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        _fetch_file(uri, kind, Path(unquote(parsed.path)), folder, limit)
    elif parsed.scheme == "s3":
        try:
            _fetch_s3(objects, uri, kind, folder, limit)
        except KeyError:  # deleted after the listing
            raise BadModelData(f"could not find model data at {uri}: it is gone") from None
    else:
        raise BadModelData(f"model data {uri}: expected s3://bucket/key")


def _fetch_file(uri: str, kind: str, path: Path, folder: Path, limit: int) -> None:
    if not path.is_file():
        raise BadModelData(f"could not find model data at {uri}: there is no such file")
    if kind == "archive":
        _unpack(path, folder, uri, limit)
    else:
        copy(path, folder / path.name)


def _fetch_s3(objects: Objects, uri: str, kind: str, folder: Path, limit: int) -> None:
    source = Location.parse(uri)
    bucket, key = source.bucket, source.key
    if not objects.bucket_exists(bucket):
        raise BadModelData(f"could not find model data at {uri}: there is no bucket {bucket}")
    found = objects.keys(bucket, key)
    if kind == "prefix":
        base = key if not key or key.endswith("/") else f"{key}/"
        found = [one for one in found if one.key.startswith(base) and not one.key.endswith("/")]
        if not found:
            raise BadModelData(f"could not find model data at {uri}: no object has this prefix")
        if sum(one.size for one in found) > limit:
            raise BadModelData(f"model data {uri}: larger than {limit >> 30} GB")
        for one in found:
            name = one.key.removeprefix(base)
            if leads_out(name):
                raise BadModelData(f"model data {uri}: the key {one.key!r} leads out of the folder")
            objects.copy(bucket, one.key, folder / name)
        return
    if not any(one.key == key for one in found):
        raise BadModelData(f"could not find model data at {uri}: there is no such object")
    if kind == "object":
        objects.copy(bucket, key, folder / PurePosixPath(key).name)
        return
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        archive = Path(place) / "archive"
        objects.link(bucket, key, archive)
        _unpack(archive, folder, uri, limit)


def _unpack(archive: Path, folder: Path, uri: str, limit: int) -> None:
    try:
        unpack(archive, folder, limit=limit, read_only=True)
    except BadArchive as error:
        raise BadModelData(f"model data {uri}: {error}") from None


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, so that each container has its own files."""
    shutil.copytree(source, target, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    copy(Path(source), Path(target))
