"""S3's buckets and objects: a crash-safe index in SQLite, and files.

A change is written to the index before the request is answered; files that are not in the index are
deleted.
"""

import contextlib
import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from local.emulator.aws.s3.contents import Content, Contents, place
from local.emulator.copies import copy
from local.emulator.errors import ServiceError
from local.emulator.ports import StoredObject

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    name TEXT PRIMARY KEY, region TEXT NOT NULL, created REAL NOT NULL, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
    file TEXT, size INTEGER NOT NULL, md5 TEXT, modified REAL NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (bucket, key, position)) WITHOUT ROWID;
"""
VERSIONS = """
SELECT key, position, file, size, md5, modified, state FROM objects WHERE bucket = ? """
CURRENT = """
AND file IS NOT NULL AND position = (
    SELECT MAX(position) FROM objects AS every
    WHERE every.bucket = objects.bucket AND every.key = objects.key)
"""
UNVERSIONED = "null"
"""The version ID of an object in a bucket without versioning."""
LAST_CHARACTER = "\U0010ffff"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Bucket:
    """A bucket.

    Attributes:
        name: its name.
        region: where it was created.
        created: when it was created, UTC seconds.
        settings: documents by subresource, e.g. `versioning` or `tagging`.
    """

    name: str
    region: str
    created: float
    settings: dict[str, str]

    @property
    def versioning(self) -> str | None:
        """`Enabled`, `Suspended`, or None if it was never enabled."""
        document = self.settings.get("versioning", "")
        return next((status for status in ("Enabled", "Suspended") if status in document), None)


@dataclass(frozen=True)
class Version:
    """A version of an object, or a delete marker.

    Attributes:
        key: the object's key.
        position: its number among the object's versions; the highest is the current one.
        content: its bytes; None for a delete marker.
        modified: when it was written, UTC seconds.
        state: other values, as JSON: `metadata` (response headers), `tags`, `acl`, `storage`,
            `version`, `etag` (of parts), `algorithm` and `checksum_…`, `parts` (their sizes).
    """

    key: str
    position: int
    content: Content | None
    modified: float
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The version ID."""
        return str(self.state.get("version") or UNVERSIONED)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.content.size if self.content else 0

    @property
    def etag(self) -> str:
        """The ETag, without quotes."""
        return str(self.state.get("etag") or (self.content.digest() if self.content else ""))

    @property
    def storage_class(self) -> str:
        """The storage class, by default `STANDARD`."""
        return str(self.state.get("storage", "STANDARD"))


class NoSuchBucket(ServiceError):
    """No bucket has this name."""

    def __init__(self) -> None:
        super().__init__("NoSuchBucket", "The specified bucket does not exist", 404)


class ObjectStore:
    """S3's buckets and objects in a folder; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.contents = Contents(folder)
        self._database = sqlite3.connect(
            folder / "index.sqlite", check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)
        self._lock = threading.RLock()

    def sweep(self) -> None:
        """Delete files left by a killed server, which are not in the index."""
        known = {file for (file,) in self._rows("SELECT file FROM objects")}
        removed = self.contents.sweep(known.__contains__)
        if removed:
            logger.info("S3: removed %d files of uploads that never ended", removed)

    def close(self) -> None:
        """Close the index; no data is lost if this is not called."""
        with self._lock:
            self._database.close()

    def buckets(self) -> list[Bucket]:
        """All buckets, by name."""
        rows = self._rows("SELECT name, region, created, settings FROM buckets ORDER BY name")
        return [_bucket(*row) for row in rows]

    def bucket(self, name: str) -> Bucket:
        """The bucket of this name.

        Raises:
            NoSuchBucket: there is none.
        """
        query = "SELECT name, region, created, settings FROM buckets WHERE name = ?"
        for row in self._rows(query, name):
            return _bucket(*row)
        raise NoSuchBucket

    def create_bucket(self, name: str, region: str, settings: dict[str, str]) -> None:
        """Create a bucket that does not exist."""
        row = (name, region, time.time(), json.dumps(settings))
        with self._transaction() as database:
            database.execute("INSERT INTO buckets VALUES (?, ?, ?, ?)", row)

    def change_setting(self, name: str, subresource: str, document: str | None) -> None:
        """Set the document of a bucket's subresource, or delete it.

        Raises:
            NoSuchBucket: there is no such bucket.
        """
        with self._transaction() as database:
            settings = self.bucket(name).settings | {subresource: document}
            kept = {key: value for key, value in settings.items() if value is not None}
            database.execute(
                "UPDATE buckets SET settings = ? WHERE name = ?", (json.dumps(kept), name)
            )

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket.

        Raises:
            ServiceError: it does not exist, or is not empty.
        """
        with self._transaction() as database:
            self.bucket(name)
            if self._rows("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", name):
                raise ServiceError(
                    "BucketNotEmpty", "The bucket you tried to delete is not empty", 409
                )
            database.execute("DELETE FROM buckets WHERE name = ?", (name,))

    def find(self, bucket: str, key: str, version: str | None = None) -> Version | None:
        """An object's current version, which may be a delete marker, or the one with this ID."""
        found = self.history(bucket, key)
        if version is not None:
            found = [one for one in found if one.id == version]
        return found[-1] if found else None

    def history(self, bucket: str, key: str) -> list[Version]:
        """Every version of an object, oldest first."""
        rows = self._rows(VERSIONS + "AND key = ? ORDER BY position", bucket, key)
        return [self._version(row) for row in rows]

    def scan(self, bucket: str, prefix: str, after: str = "", count: int = -1) -> list[Version]:
        """The objects with a prefix, sorted by key, after a key; without delete markers.

        Args:
            bucket: the bucket's name.
            prefix: prefix of the keys.
            after: a key, which need not exist.
            count: most objects; -1 for all.
        """
        query = f"{VERSIONS} AND key >= ? AND key <= ? AND key > ? {CURRENT} ORDER BY key LIMIT ?"
        rows = self._rows(query, bucket, prefix, prefix + LAST_CHARACTER, after, count)
        return [self._version(row) for row in rows]

    def scan_versions(
        self, bucket: str, prefix: str, after: str = "", position: int = -1
    ) -> list[Version]:
        """Versions and delete markers, by key and newest first, after the one at this position."""
        query = (
            VERSIONS + "AND key >= ? AND key <= ? AND (key > ? OR (key = ? AND position < ?)) "
            "ORDER BY key, position DESC"
        )
        end = prefix + LAST_CHARACTER
        rows = self._rows(query, bucket, prefix, end, after, after, position)
        return [self._version(row) for row in rows]

    def add(
        self,
        bucket: str,
        key: str,
        content: Content,
        state: dict[str, Any],
        check: Callable[[Version | None], None] = lambda _current: None,
    ) -> Version:
        """Store a file as an object; replace the older version unless versioning is enabled.

        Args:
            bucket: the bucket's name.
            key: the object's key.
            content: a file of `contents`, which is deleted if this fails.
            state: see `Version`.
            check: called with the current version first; may raise.

        Raises:
            ServiceError: the bucket does not exist, or `check` raised it.
            OSError: the index could not be written (the disk is full).
        """
        try:
            with self._replacing(bucket, key) as versions:
                check(versions[-1] if versions else None)
                return self._append(bucket, key, versions, content, state)
        except BaseException:
            self.contents.remove(content.name)
            raise

    def update(self, bucket: str, version: Version, changes: dict[str, Any]) -> None:
        """Change the state of a version, e.g. its tags."""
        state = json.dumps(version.state | changes)
        with self._transaction() as database:
            database.execute(
                "UPDATE objects SET state = ? WHERE bucket = ? AND key = ? AND position = ?",
                (state, bucket, version.key, version.position),
            )

    def remove(self, bucket: str, key: str, version: str | None = None) -> Version | None:
        """Delete a version permanently, or the object; with versioning, add a delete marker.

        Returns:
            The delete marker that was written or the version that was deleted, if any.

        Raises:
            NoSuchBucket: there is no such bucket.
            OSError: the index could not be written (the disk is full).
        """
        versioned = self.bucket(bucket).versioning is not None
        with self._replacing(bucket, key) as versions:
            if version is None and versioned:
                return self._append(bucket, key, versions, None, {})
            removed = [one for one in versions if version is None or one.id == version]
            versions[:] = [one for one in versions if one not in removed]
            return removed[-1] if removed else None

    def bucket_exists(self, bucket: str) -> bool:
        """Whether the bucket exists."""
        return bool(self._rows("SELECT 1 FROM buckets WHERE name = ?", bucket))

    def keys(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Every object whose key starts with `prefix`, by key; empty without the bucket."""
        return [StoredObject(one.key, one.size, one.etag) for one in self.scan(bucket, prefix)]

    def link(self, bucket: str, key: str, path: Path) -> None:
        """Put an object at `path`, read-only: a hard link, or else a copy; create parent folders.

        Only for readers: root could change the object through the link.

        Raises:
            KeyError: it does not exist.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._with_content(bucket, key, lambda content: place(content.path, path))

    def copy(self, bucket: str, key: str, path: Path) -> None:
        """Put a read-only copy of an object at `path`; create parent folders.

        Raises:
            FileExistsError: `path` exists.
            KeyError: the object does not exist.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._with_content(bucket, key, lambda content: copy(content.path, path))

    def put(self, bucket: str, key: str, path: Path) -> None:
        """Store a copy of a file as an object.

        Raises:
            OSError: the bucket does not exist, or the disk is full; nothing is stored.
        """
        if not self.bucket_exists(bucket):
            raise OSError(f"s3://{bucket}: no such bucket; create it first")
        self.add(bucket, key, self.contents.copy(path), {})

    def read(self, bucket: str, key: str) -> bytes:
        """An object's bytes.

        Raises:
            KeyError: it does not exist.
        """
        return self._with_content(bucket, key, lambda content: content.path.read_bytes())

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object if it exists."""
        with contextlib.suppress(NoSuchBucket):
            self.remove(bucket, key)

    def _with_content(self, bucket: str, key: str, use: Callable[[Content], Result]) -> Result:
        """Call `use` with an object's file; retry if it was replaced before it was opened."""
        while True:
            found = self.find(bucket, key)
            if found is None or found.content is None:
                raise KeyError(f"s3://{bucket}/{key}: no such object")
            try:
                return use(found.content)
            except FileNotFoundError:
                if self.find(bucket, key) == found:
                    raise

    def _append(
        self,
        bucket: str,
        key: str,
        versions: list[Version],
        content: Content | None,
        state: dict[str, Any],
    ) -> Version:
        """Add a version according to the bucket's versioning."""
        enabled = self.bucket(bucket).versioning == "Enabled"
        version_id = uuid.uuid4().hex if enabled else UNVERSIONED
        last = versions[-1].position if versions else -1
        if not enabled:
            versions[:] = [one for one in versions if one.id != UNVERSIONED]
        added = Version(key, last + 1, content, time.time(), state | {"version": version_id})
        versions.append(added)
        return added

    @contextlib.contextmanager
    def _replacing(self, bucket: str, key: str) -> Iterator[list[Version]]:
        """Yield an object's versions to change in place; then delete files without a version."""
        with self._transaction() as database:
            self.bucket(bucket)
            before = self.history(bucket, key)
            versions = list(before)
            yield versions
            database.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))
            database.executemany(
                "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(bucket, *_row(version)) for version in versions],
            )
        kept = {version.content.name for version in versions if version.content}
        for version in before:
            if version.content and version.content.name not in kept:
                self.contents.remove(version.content.name)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """An exclusive transaction, which is rolled back if the block raises."""
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except BaseException as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise OSError(f"{error}, writing the index of the objects") from error
                raise

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _version(self, row: Any) -> Version:
        key, position, file, size, md5, modified, state = row
        content = self.contents.find(file, size, md5) if file is not None else None
        return Version(key, position, content, modified, json.loads(state))


def _bucket(name: str, region: str, created: float, settings: str) -> Bucket:
    return Bucket(name, region, created, json.loads(settings))


def _row(version: Version) -> tuple[object, ...]:
    content, state = version.content, json.dumps(version.state)
    if content is None:
        file: tuple[object, ...] = (None, 0, None)
    else:
        file = (content.name, content.size, content.md5)
    return version.key, version.position, *file, version.modified, state
