"""A folder to an S3 prefix: in parallel, what is there already left alone.

    plan = look(Path("photos"))                       # the files, or why they cannot be sent
    done = send(s3, plan, "my-bucket", "data/photos/")

Broken off, the same call goes on where it was: what arrived is not sent again.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.errors import UserError, code
from local.progress import Progress

WORKERS = 24
"""Uploads at once. Small files wait for the network, not for the processor."""
PART = 16 * 1024**2
"""Bytes from which a file goes up in parts of this size."""
PARTS = 4
"""Parts of one file at once."""
MD5 = "berth-md5"
"""Metadata of every object sent: its ETag is no MD5 when it went up in parts or under a KMS key."""
JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "lost+found", "icon\r"})
"""What operating systems leave in folders; names that begin with a dot are not sent either."""

_PLAIN_ETAG = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Files:
    """What a folder holds: file by key relative to the prefix, in the order of the keys."""

    root: Path
    paths: dict[str, Path]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.paths.values())


@dataclass(frozen=True)
class Sent:
    """How many files were sent and how many were there already, and which objects are extra."""

    sent: int
    unchanged: int
    bytes: int
    extra: tuple[str, ...]


@dataclass(frozen=True)
class _Remote:
    size: int
    etag: str


def look(root: Path) -> Files:
    """Every file below a folder.

    Raises:
        UserError: no folder, no file in it, or a link that leads out of it or in a circle.
    """
    if not root.is_dir():
        raise UserError(f"{root}: not a folder")
    top = root.resolve()
    paths = dict(sorted(_walk(root, top, (top,))))
    if not paths:
        raise UserError(f"{root}: no files in it, expected images")
    return Files(root, paths)


def _walk(folder: Path, top: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith(".") or entry.name.lower() in JUNK:
            continue
        path = folder / entry.name
        if entry.is_symlink():
            _check_link(path, top)
        if entry.is_dir():
            real = path.resolve()
            if real in above:
                raise UserError(f"{path}: a link to a folder it lies in, which never ends")
            for key, file in _walk(path, top, (*above, real)):
                yield f"{entry.name}/{key}", file
        elif entry.is_file():
            yield entry.name, path
        else:
            raise UserError(f"{path}: neither a file nor a folder")


def _check_link(path: Path, top: Path) -> None:
    target = path.resolve()
    if not target.exists():
        raise UserError(f"{path}: a link to {path.readlink()}, which is not there")
    if not target.is_relative_to(top):
        raise UserError(f"{path}: a link to {target}, which lies outside {top}")


def send(
    s3: Any,
    files: Files,
    bucket: str,
    prefix: str,
    *,
    kms_key: str | None = None,
    delete: bool = False,
    workers: int = WORKERS,
) -> Sent:
    """Send every file that is not there with the same bytes; `delete` removes extra objects.

    `s3` should keep as many connections open as there are `workers`. The first error ends it,
    after the uploads then under way.

    Raises:
        UserError: a file cannot be read.
        ClientError: S3 refused.
    """
    there = _listing(s3, bucket, prefix)
    sender = _Sender(s3, bucket, kms_key)
    counts = {True: 0, False: 0}
    sent_bytes = 0
    threads = ThreadPoolExecutor(workers)
    try:
        waiting = {
            threads.submit(sender.send, path, prefix + key, there.get(prefix + key)): path
            for key, path in files.paths.items()
        }
        with Progress(f"uploading {files.root}", len(waiting)) as progress:
            for done in as_completed(waiting):
                size = done.result()
                counts[size is not None] += 1
                sent_bytes += size or 0
                progress.advance()
    finally:
        threads.shutdown(cancel_futures=True)
    expected = {prefix + key for key in files.paths}
    extra = tuple(sorted(key for key in there if key not in expected and not key.endswith("/")))
    if delete:
        _delete(s3, bucket, extra)
    return Sent(counts[True], counts[False], sent_bytes, extra)


def _listing(s3: Any, bucket: str, prefix: str) -> dict[str, _Remote]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        entry["Key"]: _Remote(entry["Size"], entry["ETag"].strip('"'))
        for page in pages
        for entry in page.get("Contents", ())
    }


def _delete(s3: Any, bucket: str, keys: tuple[str, ...]) -> None:
    for start in range(0, len(keys), 1000):
        listed = [{"Key": key} for key in keys[start : start + 1000]]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
        for failure in answer.get("Errors", ()):
            raise UserError(f"s3://{bucket}/{failure['Key']}: {failure['Message']}")


class _Sender:
    """Sends one file; shared by the threads."""

    def __init__(self, s3: Any, bucket: str, kms_key: str | None) -> None:
        self._s3, self._bucket = s3, bucket
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def send(self, path: Path, key: str, there: _Remote | None) -> int | None:
        """The bytes sent; None when the object is there already."""
        try:
            size = path.stat().st_size
            if size >= PART:
                return self._send_large(path, key, size, there)
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if self._is_there(key, len(data), digest, there):
            return None
        self._s3.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=data,
            Metadata={MD5: digest},
            **self._encryption,
        )
        return len(data)

    def _send_large(self, path: Path, key: str, size: int, there: _Remote | None) -> int | None:
        from boto3.s3.transfer import TransferConfig

        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, _md5).hexdigest()
        if self._is_there(key, size, digest, there):
            return None
        self._s3.upload_file(
            str(path),
            self._bucket,
            key,
            ExtraArgs={"Metadata": {MD5: digest}, **self._encryption},
            Config=TransferConfig(
                multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=PARTS
            ),
        )
        return size

    def _is_there(self, key: str, size: int, digest: str, there: _Remote | None) -> bool:
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
