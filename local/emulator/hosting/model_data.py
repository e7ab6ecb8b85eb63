"""A model's files: from S3 or a local file into `/opt/ml/model`, trusting nothing in them."""

import gzip
import itertools
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from local.emulator.copies import copy
from local.emulator.ports import Objects

VOLUME_GB = 30
"""Gigabytes a model may unpack to when its variant names no volume size: AWS's default volume."""
MAX_FILES = 100_000
"""Entries an archive may hold; more is an attack or a mistake."""
_CHUNK = 1 << 20
_PADDING = 64
"""Chunks of padding that may follow an archive's end."""


class BadModelData(Exception):
    """The model's data is missing or cannot be trusted; one line that names it."""


def source_of(container: dict[str, Any]) -> dict[str, str] | None:
    """Where a container definition's model data lies, or None without any.

    Returns:
        `uri`; `type`: `archive` (a gzip-compressed tar), `prefix` or `object`.

    Raises:
        BadModelData: it asks for what cannot be done here; the line names the field.
    """
    nested = container.get("ModelDataSource", {}).get("S3DataSource")
    url = container.get("ModelDataUrl")
    if nested is None:
        return None if not url else {"uri": url, "type": "archive"}
    if "ManifestS3Uri" in nested:
        raise BadModelData("ModelDataSource.S3DataSource.ManifestS3Uri cannot be used locally")
    if nested["CompressionType"] == "Gzip":
        if nested["S3DataType"] != "S3Object":
            raise BadModelData(
                "ModelDataSource.S3DataSource: CompressionType Gzip needs S3DataType S3Object"
            )
        kind = "archive"
    else:
        kind = "prefix" if nested["S3DataType"] == "S3Prefix" else "object"
    return {"uri": nested["S3Uri"], "type": kind}


def fetch(
    objects: Objects, source: dict[str, str] | None, folder: Path, *, limit_gb: int = VOLUME_GB
) -> None:
    """Put a model's files into the new folder `folder`; without a source it stays empty.

    Raises:
        BadModelData: they are missing, too large, or not to be trusted.
    """
    folder.mkdir(parents=True)
    if source is None:
        return
    uri, kind = source["uri"], source["type"]
    limit = limit_gb * 1024**3
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        _fetch_file(uri, kind, Path(unquote(parsed.path)), folder, limit)
    elif parsed.scheme == "s3":
        try:
            _fetch_s3(objects, uri, kind, folder, limit)
        except KeyError:  # deleted meanwhile
            raise BadModelData(f"could not find model data at {uri}: it is gone") from None
    else:
        raise BadModelData(f"model data {uri}: expected s3://bucket/key")


def _fetch_file(uri: str, kind: str, path: Path, folder: Path, limit: int) -> None:
    if not path.is_file():
        raise BadModelData(f"could not find model data at {uri}: there is no such file")
    if kind == "archive":
        unpack(path, folder, name=uri, limit=limit)
    else:
        copy(path, folder / path.name)


def _fetch_s3(objects: Objects, uri: str, kind: str, folder: Path, limit: int) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
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
            relative = _relative(one.key.removeprefix(base), uri)
            objects.copy(bucket, one.key, folder / relative)
        return
    if not any(one.key == key for one in found):
        raise BadModelData(f"could not find model data at {uri}: there is no such object")
    if kind == "object":
        objects.copy(bucket, key, folder / PurePosixPath(key).name)
        return
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        archive = Path(place) / "archive"
        objects.link(bucket, key, archive)
        unpack(archive, folder, name=uri, limit=limit)


def unpack(archive: Path, folder: Path, *, name: str, limit: int) -> None:
    """Unpack a gzip-compressed tar of plain files and folders.

    Args:
        archive: the file.
        folder: an empty folder.
        name: what messages call the archive.
        limit: bytes the files may take together.

    Raises:
        BadModelData: it is corrupt, holds links, devices or paths that lead out, or is too large.
    """
    left = min(limit, shutil.disk_usage(folder).free)
    try:
        with gzip.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as bundle:
            for count, member in enumerate(bundle, 1):
                if count > MAX_FILES:
                    raise BadModelData(f"model data {name}: more than {MAX_FILES} entries")
                left -= _unpack_one(bundle, member, folder, name, left)
            for count in itertools.count():  # gzip's checksum comes last
                if not plain.read(_CHUNK):
                    break
                if count > _PADDING:
                    raise BadModelData(f"model data {name}: it goes on after the archive's end")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadModelData(
            f"model data {name} is not a whole gzip-compressed tar archive: {error}"
        ) from None


def _unpack_one(
    bundle: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str, left: int
) -> int:
    """Write one entry; the bytes it took."""
    if member.issym() or member.islnk():
        raise BadModelData(
            f"model data {name}: {member.name!r} is a link; archives may hold no symbolic or hard "
            "links (add files with tar --dereference --hard-dereference)"
        )
    if not (member.isreg() or member.isdir()):
        raise BadModelData(f"model data {name}: {member.name!r} is neither a file nor a folder")
    path = folder / _relative(member.name, name)
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    if member.size > left:
        raise BadModelData(
            f"model data {name}: {member.name!r} does not fit; the archive unpacks to more than "
            "the volume or this disk holds"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # an archive may hold a name twice: the last one counts
    content = bundle.extractfile(member)
    assert content is not None  # noqa: S101 - regular files have one
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
    path.chmod(0o555 if member.mode & 0o100 else 0o444)
    return member.size


def _relative(text: str, name: str) -> PurePosixPath:
    """A path that stays inside the folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        raise BadModelData(f"model data {name}: the path {text!r} leads out of the model's folder")
    return path


def copy_tree(source: Path, target: Path) -> None:
    """The same files again at `target`, for a container that may not change another's."""
    shutil.copytree(source, target, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    copy(Path(source), Path(target))
