"""moto's S3 with its objects in files: the classes that replace moto's own."""

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Any

from moto.core.utils import utcnow
from moto.s3 import models
from moto.s3.exceptions import (
    EntityTooSmall,
    InvalidContinuationToken,
    InvalidPart,
    MalformedXML,
    NoSuchUpload,
)
from moto.s3.utils import _VersionedKeyStore, compute_checksum
from moto.utilities.utils import LowercaseDict, get_partition, md5_hash

from local.emulator.aws.contents import Body, Content, Contents

LAST_CHARACTER = "\U0010ffff"
MINIMUM_PART = 5 * 1024 * 1024
"""Bytes every part but the last has at least: S3's limit."""
PRIVATE_ACL = models.get_canned_acl("private")


class StoredKey(models.FakeKey):
    """An object whose bytes lie in a file."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> "StoredKey":
        """Make one; moto's own `__new__` keeps every object ever made in a list."""
        return object.__new__(cls)

    def __init__(
        self,
        name: Any,
        value: Content,
        account_id: str,
        region_name: str,
        storage: str | None = "STANDARD",
        etag: str | None = None,
        bucket_name: str | None = None,
        **state: Any,
    ) -> None:
        self.name = name
        self.content = value
        self.contentsize = value.size
        self.account_id, self.region_name = account_id, region_name
        self.partition = get_partition(region_name)
        self.bucket_name = bucket_name
        self.last_modified = state.pop("last_modified", None) or utcnow()
        self.acl = PRIVATE_ACL
        self.website_redirect_location: str | None = None
        self.checksum_algorithm: str | None = None
        self._storage_class = storage or "STANDARD"
        self._metadata = LowercaseDict()
        self._metadata["Content-Type"] = "binary/octet-stream"
        self._expiry = None
        self._etag = etag
        self._version_id = state.pop("version_id", None)
        self._is_versioned = state.pop("is_versioned", False)
        self.multipart = state.pop("multipart", None)
        for option in OPTIONS:
            setattr(self, option, state.pop(option, None))
        # moto's state machine of restored archives.
        self._transitions = [(None, "IN_PROGRESS"), ("IN_PROGRESS", "RESTORED")]
        self._status, self._tick, self.model_name = None, 0, "s3::keyrestore"
        self.disposed = False

    @property
    def value(self) -> Any:
        """The bytes: an open file."""
        return self.content.open()

    @property
    def etag(self) -> str:
        """The ETag, in quotes."""
        return f'"{self._etag or self.content.digest()}"'

    def dispose(self, garbage: bool = False) -> None:
        """Nothing to do: the file goes when the index has forgotten it."""

    def __del__(self) -> None:
        """Nothing to do either."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> "StoredKey":
        """A copy with the same file."""
        copy = object.__new__(StoredKey)
        copy.__dict__.update(self.__dict__)
        return copy


OPTIONS = (
    "encryption",
    "kms_key_id",
    "bucket_key_enabled",
    "lock_mode",
    "lock_legal_status",
    "lock_until",
    "checksum_value",
    "checksum_type",
    "checksum_parts",
)
"""What an object has beside its bytes, metadata and ACL, in moto's words."""


class StoredMultipart(models.FakeMultipart):
    """An upload in parts, each in its file until they are joined."""

    contents: Contents

    def __new__(cls, *_arguments: Any, **_options: Any) -> "StoredMultipart":
        """Make one, without moto's list of all."""
        return object.__new__(cls)

    def complete(self, body: Iterator[tuple[int, str]]) -> Any:
        """Join the parts the client names: the file, its ETag and its checksum if one was asked."""
        parts: list[StoredKey] = []
        for number, etag in body:
            part: Any = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise InvalidPart
            if parts and parts[-1].contentsize < MINIMUM_PART:
                raise EntityTooSmall
            parts.append(part)
        if not parts:
            raise MalformedXML
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
        etag = f"{md5_hash(digests).hexdigest()}-{len(parts)}"
        if len(parts) == 1:
            content = self.contents.share(parts[0].content)
        else:
            size = sum(part.contentsize for part in parts)
            content = self.contents.join((part.content for part in parts), size)
        return content, etag, self._checksum(parts, content)

    def _checksum(self, parts: list[Any], content: Content) -> tuple[str, str, int] | None:
        algorithm = self.metadata.get("x-amz-checksum-algorithm")
        if not algorithm:
            return None
        if self.metadata.get("x-amz-checksum-type") == "FULL_OBJECT":
            return "FULL_OBJECT", checksum(content.open(), algorithm).decode(), 1
        each = [checksum(part.value, algorithm, encode_base64=False) for part in parts]
        whole = compute_checksum(b"".join(each), algorithm)
        return "COMPOSITE", whole.decode(), len(parts)

    def dispose(self) -> None:
        """Delete the parts' files; the upload's id stays, so that completing twice is no error."""
        for part in self.parts.values():
            self.contents.remove(part.content.name)  # type: ignore[attr-defined]
        self.parts, self.partlist = {}, []


class Uploads(models.MultipartDict):
    """A bucket's open uploads; an unknown id is S3's error and not a Python one."""

    def __missing__(self, key: str) -> Any:
        """No such upload."""
        raise NoSuchUpload(upload_id=key)

    def __delitem__(self, key: str) -> None:
        """Forget an upload and its parts' files."""
        # moto joins the parts before it deletes the upload, and hands the upload on afterwards.
        self[key].dispose()
        dict.__delitem__(self, key)


class TrackedKeys(_VersionedKeyStore):
    """A bucket's objects, in order, that remembers which names a request has changed."""

    def __init__(self, changed: "Changes", bucket: str) -> None:
        super().__init__()
        self._changed, self._bucket = changed, bucket
        self.names: list[str] = []

    def setlist(self, key: Any, list_: Any) -> None:
        """Set an object's versions."""
        self._changed.add(self._bucket, key)
        self.restore(key, list(list_))

    def restore(self, key: str, versions: list[Any]) -> None:
        """Set an object's versions as the index has them; none at all removes it."""
        if not versions:
            self._forget(key)
            return
        if key not in self:
            insort(self.names, key)
        dict.__setitem__(self, key, versions)

    def load(self, objects: Iterable[tuple[str, list[Any]]]) -> None:
        """Set many objects, given in the order of their names, into an empty bucket."""
        for key, versions in objects:
            dict.__setitem__(self, key, versions)
            self.names.append(key)

    def __setitem__(self, key: str, value: Any) -> None:
        """Add a version."""
        self.setlist(key, [*self.getlist(key, []), value])

    def pop(self, key: str) -> None:  # type: ignore[override]
        """Remove an object. A missing one is a KeyError."""
        if key not in self:
            raise KeyError(key)
        self._changed.add(self._bucket, key)
        self._forget(key)

    def _forget(self, key: str) -> None:
        if dict.pop(self, key, None) is not None:
            del self.names[bisect_left(self.names, key)]

    def listing(
        self, prefix: str, delimiter: str | None, after: str | None, limit: int | None
    ) -> tuple[list[Any], bool]:
        """A page: objects and, as strings, the folders they are grouped in; and whether more come.

        `after` is the last item of the page before.
        """
        names = self.names
        position = bisect_left(names, prefix)
        if after is not None:
            position = max(position, bisect_right(names, after))
            if delimiter and after.endswith(delimiter):
                position = max(position, bisect_right(names, after + LAST_CHARACTER))
        items: list[Any] = []
        while position < len(names) and names[position].startswith(prefix):
            name = names[position]
            key = self.get(name)
            if not isinstance(key, StoredKey):  # deleted, its versions kept
                position += 1
                continue
            if limit is not None and len(items) == limit:
                return items, True
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            if delimiter and end >= 0:
                folder = name[: end + len(delimiter)]
                items.append(folder)
                position = bisect_right(names, folder + LAST_CHARACTER)
            else:
                items.append(key)
                position += 1
        return items, False


class Changes(threading.local):
    """What the request of this thread has changed so far.

    Attributes:
        keys: (bucket, name) of every object it set or removed.
        contents: the files it made.
        incoming: the file its body was received into, for moto to find.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: a request begins."""
        self.keys: set[tuple[str, str]] = set()
        self.contents: list[Content] = []
        self.incoming: Content | None = None

    def add(self, bucket: str, key: str) -> None:
        """Note that an object changed."""
        self.keys.add((bucket, key))


class DurableS3(models.S3Backend):
    """moto's backend, made to keep bytes in files and to list without sorting everything."""

    def __init__(self, region_name: str, account_id: str, contents: Contents) -> None:
        super().__init__(region_name, account_id)
        self.contents = contents
        self.changes = Changes()
        self.lock = threading.RLock()

    def reset(self) -> None:
        """Forget everything in memory; the files stay."""
        for bucket in self.buckets:
            models.s3_backends.bucket_accounts.pop(bucket, None)
        self.buckets.clear()

    def create_bucket(self, bucket_name: str, *arguments: Any, **options: Any) -> Any:
        """Make a bucket."""
        with self.lock:
            bucket = super().create_bucket(bucket_name, *arguments, **options)
            bucket.creation_date = models.utcnow().replace(tzinfo=UTC)  # type: ignore[attr-defined]
            bucket.keys = TrackedKeys(self.changes, bucket_name)
            bucket.multiparts = Uploads()
            return bucket

    def put_object(  # type: ignore[override]
        self, bucket_name: str, key_name: str, value: Any, **options: Any
    ) -> Any:
        """Make an object of bytes, of what was received, or of another object's file."""
        content = self._content(value)
        with self.lock:
            return super().put_object(bucket_name, key_name, content, **options)  # type: ignore[arg-type]

    def upload_part(self, bucket_name: str, multipart_id: str, part_id: int, value: Any) -> Any:
        """Keep a part of an upload."""
        upload = self.get_bucket(bucket_name).multiparts[multipart_id]
        before = upload.parts.get(part_id)
        part = upload.set_part(part_id, self._content(value))  # type: ignore[arg-type]
        self.changes.contents.clear()  # the upload's own now
        if isinstance(before, StoredKey):
            self.contents.remove(before.content.name)
        return part

    def upload_part_copy(self, *arguments: Any, **options: Any) -> Any:
        """Keep a part that is (a range of) another object."""
        bucket, upload, part_id, source_bucket, source_key, version, begin, end = _copied(
            *arguments, **options
        )
        source = self.get_object(source_bucket, source_key, version_id=version)
        body = source.value
        whole = self._content(body if begin is None else body[begin : end + 1])
        return self.upload_part(bucket, upload, part_id, whole)

    def complete_multipart_upload(self, bucket_name: str, multipart_id: str, body: Any) -> Any:
        """Join the parts into an object; moto's own would read the deleted upload's parts."""
        # An unknown upload is found out before the parts are looked at.
        self.get_bucket(bucket_name).multiparts[multipart_id]
        return super().complete_multipart_upload(bucket_name, multipart_id, body)

    def get_object(
        self,
        bucket_name: str,
        key_name: str,
        version_id: str | None = None,
        part_number: str | None = None,  # noqa: ARG002 - parts are joined: any number is the whole
        return_delete_marker: bool = False,
    ) -> Any:
        """An object, or None."""
        return super().get_object(
            bucket_name, key_name, version_id, return_delete_marker=return_delete_marker
        )

    def delete_object(self, *arguments: Any, **options: Any) -> tuple[bool, dict[str, Any]]:
        """Delete an object, a version of it, or hide it behind a marker."""
        with self.lock:
            return super().delete_object(*arguments, **options)

    def list_objects(
        self,
        bucket: Any,
        prefix: str | None,
        delimiter: str | None,
        marker: str | None,
        max_keys: int | None,
    ) -> Any:
        """A page of objects and folders, whether more follow, and where."""
        with self.lock:
            items, more = bucket.keys.listing(prefix or "", delimiter, marker, max_keys)
        keys = [item for item in items if not isinstance(item, str)]
        folders = [item for item in items if isinstance(item, str)]
        return keys, folders, more, self._get_name(items[-1]) if more and items else None

    def list_objects_v2(
        self,
        bucket: Any,
        prefix: str | None,
        delimiter: str | None,
        continuation_token: str | None,
        start_after: str | None,
        max_keys: int,
    ) -> Any:
        """A page of objects and folders; the token is the last item, so that it outlives us."""
        try:
            after = (
                bytes.fromhex(continuation_token).decode() if continuation_token else start_after
            )
        except ValueError:
            raise InvalidContinuationToken from None
        with self.lock:
            items, more = bucket.keys.listing(prefix or "", delimiter, after, max_keys)
        token = self._get_name(items[-1]).encode().hex() if more and items else None
        return items, more, token

    def _content(self, value: Any) -> Content:
        if isinstance(value, Content):
            content = value
        elif isinstance(value, Body):
            try:
                whole = len(value) == value.content.size
                content = (
                    self.contents.share(value.content) if whole else self.contents.write(value)
                )
            except FileNotFoundError:  # replaced just now; the open file still has it
                content = self.contents.write(value)
        elif not value and self.changes.incoming is not None:
            content, self.changes.incoming = self.changes.incoming, None
        else:
            content = self.contents.write([value.encode() if isinstance(value, str) else value])
        if content not in self.changes.contents:
            self.changes.contents.append(content)
        return content


def checksum(body: Any, algorithm: str, encode_base64: bool = True) -> bytes:
    """moto's checksum, of bytes or of an open file."""
    if not isinstance(body, Body):
        return compute_checksum(body, algorithm, encode_base64)
    with body.mapped() as data:
        return compute_checksum(data, algorithm, encode_base64)


def _copied(
    dest_bucket_name: str,
    multipart_id: str,
    part_id: int,
    src_bucket_name: str,
    src_key_name: str,
    src_version_id: str | None,
    start_byte: int | None,
    end_byte: int,
) -> tuple[str, str, int, str, str, str | None, int | None, int]:
    return (
        dest_bucket_name,
        multipart_id,
        part_id,
        src_bucket_name,
        src_key_name,
        src_version_id,
        start_byte,
        end_byte,
    )
