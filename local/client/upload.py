"""Parallel upload of a folder to an S3 prefix, which skips unchanged files.

    files = scan_folder(Path("photos"))
    result = upload_files(s3, files, "my-bucket", "data/photos/")

After an interruption, the same call continues where it stopped.
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

from container.files.folders import is_junk, is_shard_name, is_utf8, left_out, readable
from container.files.media_types import media_type
from container.files.progress import ProgressBar
from container.files.regular import HEAD, open_regular, read_bounded, size_of
from local.errors import UserError, code

WORKERS = 24
"""Parallel uploads; small files wait for the network, not for the CPU."""
PART = 16 * 1024**2
"""Bytes of a part, and of the smallest file that is uploaded in parts."""
PARTS = 4
"""Parallel parts per file."""
SHOWN = 10
"""Most messages about files that cannot be uploaded."""
MD5 = "berth-md5"
"""Metadata of each object: the ETag of a multipart or KMS-encrypted object is not its MD5."""


@dataclass(frozen=True)
class Files:
    """The files of a folder.

    Attributes:
        root: the folder.
        paths: each file by its key relative to the prefix, sorted by key.
        left_out: lines on files that are not uploaded.
    """

    root: Path
    paths: dict[str, Path]
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Total size of the files in bytes."""
        return sum(path.stat().st_size for path in self.paths.values())


@dataclass(frozen=True)
class UploadResult:
    """Numbers of files sent and unchanged, bytes sent, and the keys that are not in the folder."""

    sent: int
    unchanged: int
    bytes: int
    extra: tuple[str, ...]


@dataclass(frozen=True)
class _RemoteObject:
    size: int
    etag: str


def scan_folder(root: Path, *, strict: bool = True, largest: int | None = None) -> Files:
    """Every file below a folder, except files such as `.DS_Store` that tools create.

    A file that cannot be uploaded (a pipe, a name that is not UTF-8, a broken link or one out of
    the folder, more than `largest` bytes in what is no tar shard) is an error with `strict`, and
    skipped without.

    Raises:
        UserError: `root` is not a folder or has no files, or with `strict`, a file cannot be
            uploaded.
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
        shown.append(f"{len(walk.problems):,} files and folders cannot be uploaded in total")
    if not paths:
        raise UserError(
            "; ".join([f"{readable(str(root))}: found no files, expected images", *shown])
        )
    junk = [left_out("left by a tool", walk.junk)] if walk.junk else []
    return Files(root, paths, (*(f"left out: {line}" for line in shown), *junk))


class _FolderWalk:
    """A walk of a folder that also collects junk files and messages on files to skip."""

    def __init__(self, top: Path, largest: int | None) -> None:
        self._top, self._largest = top, largest
        self.junk: dict[str, None] = {}
        self.problems: list[str] = []

    def files(self, folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
        """Yield the key and path of each file."""
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
        """Why a file or folder cannot be uploaded; None if it can."""
        if not is_utf8(path.name):
            return "the name is not UTF-8, which S3 keys must be; rename it"
        if path.is_symlink():
            real = Path(os.path.realpath(path))
            if not real.exists() or real.is_symlink():
                return f"a broken link to {readable(str(path.readlink()))}"
            if not real.is_relative_to(self._top):
                return f"a link to {readable(str(real))}, which is outside {self._top}"
            if real in above:
                return "a link to a folder that contains it"
        if path.is_dir():
            return None
        if not path.is_file():
            return "neither a file nor a folder"
        size = path.stat().st_size
        if is_shard_name(path.name):
            return None
        if self._largest is not None and size > self._largest:
            return f"found {size:,} bytes, expected at most {self._largest:,} in an image"
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
    """Upload every new or changed file; `delete` deletes objects that are not in the folder.

    The connection pool of `s3` should have one connection per worker. After the first error no
    further upload starts.

    Raises:
        UserError: a file cannot be read.
        ClientError: S3 returned an error.
    """
    existing = _listing(s3, bucket, prefix)
    uploader = _Uploader(s3, bucket, kms_key)
    counts = {True: 0, False: 0}
    uploaded_bytes = 0
    threads = ThreadPoolExecutor(workers)
    try:
        pending = [
            threads.submit(uploader.upload, path, prefix + key, existing.get(prefix + key))
            for key, path in files.paths.items()
        ]
        with ProgressBar(f"uploading {files.root}", len(pending), log=sys.stderr) as progress:
            for done in as_completed(pending):
                size = done.result()
                counts[size is not None] += 1
                uploaded_bytes += size or 0
                progress.advance()
    finally:
        threads.shutdown(cancel_futures=True)
    expected = {prefix + key for key in files.paths}
    extra = tuple(sorted(key for key in existing if key not in expected and not key.endswith("/")))
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
        response = s3.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
        for failure in response.get("Errors", ()):
            raise UserError(f"s3://{bucket}/{failure['Key']}: {failure['Message']}")


class _Uploader:
    """Uploads single files; thread-safe."""

    def __init__(self, s3: Any, bucket: str, kms_key: str | None) -> None:
        self._s3, self._bucket = s3, bucket
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def upload(self, path: Path, key: str, existing: _RemoteObject | None) -> int | None:
        """Upload a file and return its size; None if the existing object is the same."""
        try:
            with open_regular(path) as stream:
                size = size_of(stream)
                if size >= PART:
                    return self._send_large(path, stream, key, existing)
                data = read_bounded(stream)
        except OSError as error:
            raise UserError(f"{readable(str(path))}: cannot be read: {error.strerror}") from None
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if self._is_unchanged(key, len(data), digest, existing):
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
        self, path: Path, stream: BufferedReader, key: str, existing: _RemoteObject | None
    ) -> int | None:
        from boto3.s3.transfer import TransferConfig

        size, kind = size_of(stream), media_type(stream.read(HEAD), key)
        stream.seek(0)
        digest = hashlib.file_digest(stream, _md5).hexdigest()
        if self._is_unchanged(key, size, digest, existing):
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

    def _is_unchanged(
        self, key: str, size: int, digest: str, existing: _RemoteObject | None
    ) -> bool:
        if existing is None or existing.size != size:
            return False
        if existing.etag == digest:
            return True
        try:
            head = self._s3.head_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            if code(error) in ("404", "NoSuchKey", "403"):
                return False
            raise
        return bool(
            head["Metadata"].get(MD5) == digest and head["ETag"].strip('"') == existing.etag
        )


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
