"""A folder to an S3 prefix: in parallel, unchanged files left out.

    files = scan_folder(Path("photos"))           # or why they cannot be sent
    result = upload_files(s3, files, "my-bucket", "data/photos/")

After an interruption the same call continues: what was uploaded is not sent again.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from container.files.folders import is_junk, is_utf8, left_out, readable
from container.files.media_types import media_type
from container.files.progress import ProgressBar
from container.files.regular import HEAD, open_regular, read_bounded, size_of
from local.errors import UserError, code

WORKERS = 24
"""Uploads at once. Small files wait for the network, not for the processor."""
PART = 16 * 1024**2
"""Bytes from which a file goes up in parts of this size."""
PARTS = 4
"""Parts of one file at once."""
SHOWN = 10
"""Files that cannot be sent and are named each."""
MD5 = "berth-md5"
"""Metadata of every object sent: its ETag is no MD5 when it went up in parts or under a KMS key."""


@dataclass(frozen=True)
class Files:
    """What a folder holds: file by key relative to the prefix, in the order of the keys.

    `left_out` are lines on what is not sent.
    """

    root: Path
    paths: dict[str, Path]
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.paths.values())


@dataclass(frozen=True)
class UploadResult:
    """How many files were sent and how many were there already, and which objects are extra."""

    sent: int
    unchanged: int
    bytes: int
    extra: tuple[str, ...]


@dataclass(frozen=True)
class _RemoteObject:
    size: int
    etag: str


def scan_folder(root: Path, *, strict: bool = True, largest: int | None = None) -> Files:
    """Every file below a folder, but for what tools left there.

    What cannot be sent (a pipe, a name that is not UTF-8, a link that leads out of the folder or
    nowhere, more than `largest` bytes) is an error when `strict`, and else left out.

    Raises:
        UserError: no folder, no file in it, or, when `strict`, one that cannot be sent.
    """
    if not root.is_dir():
        raise UserError(f"{readable(str(root))}: not a folder")
    top = root.resolve()
    walk = _FolderWalk(top, largest)
    paths = dict(sorted(walk.files(root, (top,))))
    if strict and walk.problems:
        raise UserError(walk.problems[0])
    shown = walk.problems[:SHOWN]
    if len(walk.problems) > SHOWN:
        shown.append(f"{len(walk.problems):,} files and folders that cannot be sent in all")
    if not paths:
        raise UserError(
            "; ".join([f"{readable(str(root))}: no files in it, expected images", *shown])
        )
    junk = [left_out("left by a tool", walk.junk)] if walk.junk else []
    return Files(root, paths, (*(f"left out: {line}" for line in shown), *junk))


class _FolderWalk:
    """The files below a folder, what tools left there, and a line on all that cannot be sent."""

    def __init__(self, top: Path, largest: int | None) -> None:
        self._top, self._largest = top, largest
        self.junk: dict[str, None] = {}
        self.problems: list[str] = []

    def files(self, folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
        """Key and path of each."""
        try:
            with os.scandir(folder) as entries:
                found = sorted(entry.name for entry in entries)
        except OSError as error:
            self.problems.append(f"{readable(str(folder))}: cannot be read: {error.strerror}")
            return
        for name in found:
            path = folder / name
            if is_junk(name):
                self.junk[name] = None
            elif (why := self._problem(path, above)) is not None:
                self.problems.append(f"{readable(str(path))}: {why}")
            elif path.is_dir():
                for key, file in self.files(path, (*above, path.resolve())):
                    yield f"{name}/{key}", file
            else:
                yield name, path

    def _problem(self, path: Path, above: tuple[Path, ...]) -> str | None:
        """Why a file or folder cannot be sent; None when it can."""
        if not is_utf8(path.name):
            return "its name is not UTF-8, as the keys in S3 are: rename it"
        if path.is_symlink():
            real = Path(os.path.realpath(path))
            if not real.exists() or real.is_symlink():
                return f"a link to {readable(str(path.readlink()))}, which is not there"
            if not real.is_relative_to(self._top):
                return f"a link to {readable(str(real))}, which lies outside {self._top}"
            if real in above:
                return "a link to a folder it lies in, which never ends"
        if path.is_dir():
            return None
        if not path.is_file():
            return "neither a file nor a folder"
        size = path.stat().st_size
        if self._largest is not None and size > self._largest:
            return f"{size:,} bytes, expected at most {self._largest:,} in an image"
        return None


def upload_files(
    s3: Any,
    files: Files,
    bucket: str,
    prefix: str,
    *,
    kms_key: str | None = None,
    delete: bool = False,
    workers: int = WORKERS,
) -> UploadResult:
    """Send every file that is not there with the same bytes; `delete` removes extra objects.

    `s3` should keep as many connections open as there are `workers`. The first error ends it,
    after the uploads then under way.

    Raises:
        UserError: a file cannot be read.
        ClientError: S3 refused.
    """
    there = _listing(s3, bucket, prefix)
    uploader = _Uploader(s3, bucket, kms_key)
    counts = {True: 0, False: 0}
    uploaded_bytes = 0
    threads = ThreadPoolExecutor(workers)
    try:
        waiting = {
            threads.submit(uploader.upload, path, prefix + key, there.get(prefix + key)): path
            for key, path in files.paths.items()
        }
        with ProgressBar(f"uploading {files.root}", len(waiting), log=sys.stderr) as progress:
            for done in as_completed(waiting):
                size = done.result()
                counts[size is not None] += 1
                uploaded_bytes += size or 0
                progress.advance()
    finally:
        threads.shutdown(cancel_futures=True)
    expected = {prefix + key for key in files.paths}
    extra = tuple(sorted(key for key in there if key not in expected and not key.endswith("/")))
    if delete:
        _delete(s3, bucket, extra)
    return UploadResult(counts[True], counts[False], uploaded_bytes, extra)


def _listing(s3: Any, bucket: str, prefix: str) -> dict[str, _RemoteObject]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        entry["Key"]: _RemoteObject(entry["Size"], entry["ETag"].strip('"'))
        for page in pages
        for entry in page.get("Contents", ())
    }


def _delete(s3: Any, bucket: str, keys: tuple[str, ...]) -> None:
    for start in range(0, len(keys), 1000):
        listed = [{"Key": key} for key in keys[start : start + 1000]]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
        for failure in answer.get("Errors", ()):
            raise UserError(f"s3://{bucket}/{failure['Key']}: {failure['Message']}")


class _Uploader:
    """Sends one file; shared by the threads."""

    def __init__(self, s3: Any, bucket: str, kms_key: str | None) -> None:
        self._s3, self._bucket = s3, bucket
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def upload(self, path: Path, key: str, there: _RemoteObject | None) -> int | None:
        """The bytes sent; None when the object is there already."""
        try:
            with open_regular(path) as stream:
                size = size_of(stream)
                if size >= PART:
                    return self._send_large(path, stream, key, there)
                data = read_bounded(stream)
        except OSError as error:
            raise UserError(f"{readable(str(path))}: cannot be read: {error.strerror}") from None
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if self._is_there(key, len(data), digest, there):
            return None
        self._s3.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=data,
            ContentType=media_type(data[:HEAD], key),
            Metadata={MD5: digest},
            **self._encryption,
        )
        return len(data)

    def _send_large(
        self, path: Path, stream: BufferedReader, key: str, there: _RemoteObject | None
    ) -> int | None:
        from boto3.s3.transfer import TransferConfig

        size, kind = size_of(stream), media_type(stream.read(HEAD), key)
        stream.seek(0)
        digest = hashlib.file_digest(stream, _md5).hexdigest()
        if self._is_there(key, size, digest, there):
            return None
        self._s3.upload_file(
            str(path),
            self._bucket,
            key,
            ExtraArgs={"ContentType": kind, "Metadata": {MD5: digest}, **self._encryption},
            Config=TransferConfig(
                multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=PARTS
            ),
        )
        return size

    def _is_there(self, key: str, size: int, digest: str, there: _RemoteObject | None) -> bool:
        if there is None or there.size != size:
            return False
        if there.etag == digest:
            return True
        try:
            head = self._s3.head_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            if code(error) in ("404", "NoSuchKey", "403"):
                return False
            raise
        return bool(head["Metadata"].get(MD5) == digest and head["ETag"].strip('"') == there.etag)


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
