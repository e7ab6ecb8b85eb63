"""Sources of a profiler's recording: an archive, a folder or an S3 prefix."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container.files.archives import leads_out
from local.archives import MAX_FILES
from local.client.inputs import given_location
from local.errors import UserError, code
from local.results.downloads import LARGEST, OUTPUT, download, unpack
from local.results.profiler_report import PROFILER_OUTPUT

if TYPE_CHECKING:
    from local.client.target import Target

ARCHIVES = (".tar.gz", ".tgz")
WORKERS = 16
"""Parallel downloads: a recording has hundreds of small files."""
_GENERIC_NAMES = {PROFILER_OUTPUT, OUTPUT, "data", "profiler", ""}
"""Folders that have the same name in every job."""


def is_path(given: str) -> bool:
    """Whether an argument can only be a path or an S3 URI, and not a job's name."""
    return "/" in given or given in (".", "..") or given.endswith(ARCHIVES)


def report_name(given: str) -> str:
    """The name for the report of a path or URI: its last part that is specific to the job."""
    whole = given if given.startswith("s3://") else Path(given).resolve().as_posix()
    for part in reversed(whole.rstrip("/").split("/")):
        for suffix in ARCHIVES:
            part = part.removesuffix(suffix)
        if part not in _GENERIC_NAMES:
            return f"{part}-report"
    return "profiler-report"


@contextmanager
def recording_at(path: Path, scratch: Path) -> Iterator[Path]:
    """The folder with the recording at a local path.

    Args:
        path: an `output.tar.gz`, its unpacked contents, a job's folder, AWS's `profiler-output` or
            the folder that contains it.
        scratch: folder for a temporary folder to unpack an archive in.

    Raises:
        UserError: the path does not exist, or an archive is corrupt or unsafe.
    """
    if path.is_dir():
        inner = (path / name for name in (PROFILER_OUTPUT, OUTPUT))
        yield next((folder for folder in inner if folder.is_dir()), path)
        return
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".berth-") as folder:
        unpack(path, Path(folder) / OUTPUT)
        yield Path(folder) / OUTPUT


@contextmanager
def recording_in_s3(target: "Target", uri: str, scratch: Path) -> Iterator[Path]:
    """The folder with the recording at an S3 URI, downloaded to a temporary folder in `scratch`.

    Args:
        target: where S3 is.
        uri: an archive, a `profiler-output`, or a job's prefix that contains one of them.
        scratch: folder for the temporary folder.

    Raises:
        UserError: there is no recording, or it is too large.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".berth-") as name:
        folder = Path(name)
        archive = folder / "output.tar.gz"
        if uri.endswith(ARCHIVES):
            if not download(target, uri, archive):
                raise UserError(f"{uri}: no such object")
        else:
            root = uri.rstrip("/")
            # Download only the recording: a job's prefix may also have gigabytes of tensors.
            if fetch_folder(target, f"{root}/{PROFILER_OUTPUT}", folder / PROFILER_OUTPUT):
                yield folder / PROFILER_OUTPUT
                return
            if not download(target, f"{root}/{OUTPUT}/{archive.name}", archive):
                if not fetch_folder(target, root, folder / PROFILER_OUTPUT):
                    raise UserError(f"{uri}: found nothing, expected a profiler's recording")
                yield folder / PROFILER_OUTPUT
                return
        unpack(archive, folder / OUTPUT)
        yield folder / OUTPUT


def fetch_folder(target: "Target", uri: str, folder: Path) -> int:
    """Download the objects below a prefix atomically, and return their number.

    Raises:
        UserError: it is no S3 URI, a key is a path outside the folder, or the objects are too
            many or too large.
    """
    source = given_location("profile", uri)
    bucket, prefix = source.bucket, source.key
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    s3 = target.client("s3", connections=WORKERS)
    names: dict[str, Path] = {}
    size = 0
    for stored in _listed(s3, bucket, prefix):
        name = stored["Key"][len(prefix) :]
        if name.endswith("/") or not name:
            continue
        if leads_out(name):
            raise UserError(f"s3://{bucket}/{stored['Key']}: the key is a path outside the folder")
        size += stored["Size"]
        if size > LARGEST or len(names) >= MAX_FILES:
            raise UserError(f"{uri}: found more than {LARGEST:,} bytes or {MAX_FILES:,} files")
        names[stored["Key"]] = Path(name)
    if not names:
        return 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".berth-") as scratch:
        part = Path(scratch) / folder.name
        fetch = partial(_fetch, s3, bucket, part)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(fetch, names, names.values()))
        part.rename(folder)
    return len(names)


def _fetch(s3: Any, bucket: str, folder: Path, key: str, name: Path) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
            file.write(chunk)


def _listed(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import ClientError

    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from page.get("Contents", ())
    except ClientError as error:
        if code(error) == "NoSuchBucket":
            raise UserError(f"no such bucket: {bucket}") from None
        raise
