"""Multipart uploads: each part is a file until completion. A restart aborts open uploads."""

import base64
import hashlib
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from local.emulator.aws.s3.contents import Content, Contents
from local.emulator.aws.s3.xml import malformed
from local.emulator.aws.signature.chunked import HASHES
from local.emulator.errors import ServiceError

MINIMUM_PART = 5 * 1024 * 1024
"""Smallest size in bytes of all parts but the last ("Amazon S3 multipart upload limits")."""
COMPOSITE, WHOLE = "COMPOSITE", "FULL_OBJECT"
"""Types of checksums: of the parts' checksums, or of the object's bytes."""


@dataclass(frozen=True)
class Part:
    """A part: its file, upload time (UTC seconds) and checksums (algorithm → base64)."""

    content: Content
    modified: float
    checksums: dict[str, str]

    @property
    def etag(self) -> str:
        """The MD5 of its bytes, in hex."""
        return self.content.digest()


@dataclass
class MultipartUpload:
    """An upload that is neither completed nor aborted.

    Attributes:
        id: the upload's ID.
        bucket, key: of the object.
        state: state of the object (see `Version`).
        algorithm: algorithm of its checksum, in lower case; empty for none.
        checksum_type: `COMPOSITE` or `FULL_OBJECT`.
        parts: the parts by number.
        started: when it was created, UTC seconds.
        completing: held while the parts are joined.
    """

    bucket: str
    key: str
    state: dict[str, Any]
    algorithm: str = ""
    checksum_type: str = COMPOSITE
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    parts: dict[int, Part] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    completing: threading.Lock = field(default_factory=threading.Lock)


class Uploads:
    """The open uploads; thread-safe."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._lock = threading.Lock()
        self._open: dict[str, MultipartUpload] = {}

    def add(self, upload: MultipartUpload) -> None:
        """Add an upload."""
        with self._lock:
            self._open[upload.id] = upload

    def find(self, bucket: str, key: str, upload_id: str) -> MultipartUpload:
        """The upload with this ID.

        Raises:
            ServiceError: there is none for this object.
        """
        with self._lock:
            upload = self._open.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise ServiceError(
                "NoSuchUpload",
                "The specified multipart upload does not exist. The upload ID might be invalid, or "
                "the multipart upload might have been aborted or completed.",
                404,
            )
        return upload

    def in_bucket(self, bucket: str) -> list[MultipartUpload]:
        """All uploads to a bucket, sorted by key and start time."""
        with self._lock:
            found = [upload for upload in self._open.values() if upload.bucket == bucket]
        return sorted(found, key=lambda upload: (upload.key, upload.started))

    def put_part(self, upload: MultipartUpload, number: int, part: Part) -> None:
        """Add a part, and delete an earlier one with the same number."""
        with self._lock:
            open_still = upload.id in self._open
            before = upload.parts.get(number)
            if open_still:
                upload.parts[number] = part
        replaced = before if open_still else part
        if replaced is not None:
            self._contents.remove(replaced.content.name)

    def end(self, upload: MultipartUpload) -> None:
        """Remove a completed or aborted upload, and delete its parts."""
        with self._lock:
            self._open.pop(upload.id, None)
            parts = list(upload.parts.values())
        for part in parts:
            self._contents.remove(part.content.name)

    def join(
        self, upload: MultipartUpload, wanted: Sequence[tuple[int, str]]
    ) -> tuple[Content, dict[str, Any]]:
        """Join the parts with these numbers and ETags; return the file and the object's state.

        Raises:
            ServiceError: a part was not uploaded, is too small, or is not in order.
        """
        parts = _chosen(upload, wanted)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        if len(parts) == 1:
            content = self._contents.share(parts[0].content)
        else:
            size = sum(part.content.size for part in parts)
            content = self._contents.join((part.content for part in parts), size)
        state = {"etag": etag, "upload": upload.id, "parts": [part.content.size for part in parts]}
        return content, upload.state | state | _checksum(upload, parts, content)


def _chosen(upload: MultipartUpload, wanted: Sequence[tuple[int, str]]) -> list[Part]:
    numbers = [number for number, _ in wanted]
    if not numbers:
        raise malformed()
    if numbers != sorted(set(numbers)):
        raise ServiceError(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        )
    parts = []
    for number, etag in wanted:
        part = upload.parts.get(number)
        if part is None or part.etag != etag.strip('"'):
            raise ServiceError(
                "InvalidPart",
                "One or more of the specified parts could not be found. The part may not have been "
                "uploaded, or the specified entity tag may not match the part's entity tag.",
            )
        parts.append(part)
    if any(part.content.size < MINIMUM_PART for part in parts[:-1]):
        raise ServiceError(
            "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"
        )
    return parts


def _checksum(upload: MultipartUpload, parts: list[Part], content: Content) -> dict[str, Any]:
    """The object's checksum as state; empty for an algorithm that is not supported."""
    if upload.algorithm not in HASHES:
        return {}
    kept = {"algorithm": upload.algorithm.upper(), "checksum_type": upload.checksum_type}
    if upload.checksum_type == WHOLE:
        return kept | {"checksum_value": compute(upload.algorithm, content.open())}
    each = [
        base64.b64decode(
            part.checksums.get(upload.algorithm) or compute(upload.algorithm, part.content.open())
        )
        for part in parts
    ]
    return kept | {"checksum_value": compute(upload.algorithm, each), "checksum_parts": len(parts)}


def compute(algorithm: str, blocks: Iterable[bytes]) -> str:
    """The checksum of bytes, in base64."""
    hashing = HASHES[algorithm]()
    for block in blocks:
        hashing.update(block)
    return base64.b64encode(hashing.digest()).decode()
