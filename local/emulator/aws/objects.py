"""The local S3's objects: files, and an index in SQLite that a killed server leaves whole.

moto answers the requests; every object it changed is written to the index before the answer is
sent, and what the index does not know is not there after a restart.
"""

import contextlib
import itertools
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from moto.s3 import models, responses
from moto.s3.exceptions import MissingBucket

from local.emulator.aws.buckets import (
    OPTIONS,
    PRIVATE_ACL,
    Changes,
    DurableS3,
    StoredKey,
    StoredMultipart,
    TrackedKeys,
    checksum,
)
from local.emulator.aws.contents import Contents, place
from local.emulator.aws.listing import list_objects_v2
from local.emulator.copies import copy
from local.emulator.credentials import ACCOUNT
from local.emulator.ports import StoredObject

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
    file TEXT, size INTEGER NOT NULL, md5 TEXT, modified REAL NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (bucket, key, position)) WITHOUT ROWID;
"""
PARTITION = "aws"


class ObjectStore:
    """S3's objects in a folder. Every method may be called from any thread.

    One at a time in a process: moto's backends are the process's.
    """

    def __init__(self, folder: Path, region: str) -> None:
        self._region = region
        self._contents = Contents(folder)
        self._database = sqlite3.connect(
            folder / "index.sqlite", check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)
        self._lock = threading.RLock()
        self._backend = DurableS3(PARTITION, ACCOUNT, self._contents)
        self._patches = _replace_classes(self._contents)
        self._patches.enter_context(_instead_of_moto(self._backend))

    @property
    def changes(self) -> Changes:
        """What this thread's request has changed and not yet kept."""
        return self._backend.changes

    @property
    def contents(self) -> Contents:
        """The files."""
        return self._contents

    def load(self) -> int:
        """Give moto every object the index knows; how many there are.

        Buckets are made before; one that is missing is made with its defaults.
        """
        rows = self._database.execute(
            "SELECT bucket, key, file, size, md5, modified, state FROM objects "
            "ORDER BY bucket, key, position"
        ).fetchall()
        known = {row[2] for row in rows}
        for bucket, of_bucket in itertools.groupby(rows, key=lambda row: row[0]):
            if bucket not in self._backend.buckets:
                self._backend.create_bucket(bucket, self._region)
            by_key = itertools.groupby(of_bucket, key=lambda row: row[1])
            versions = ((key, self._versions(bucket, key, list(rows))) for key, rows in by_key)
            self._keys(bucket).load(versions)
        removed = self._contents.sweep(known.__contains__)
        if removed:
            logger.info("S3: removed %d files of uploads that never ended", removed)
        return len(rows)

    @contextlib.contextmanager
    def request(self) -> Iterator[Changes]:
        """A request that may change objects: at its end they are in the index, or as before.

        Raises:
            OSError: they could not be written (the disk is full).
        """
        self.changes.clear()
        try:
            yield self.changes
            self._keep()
        except BaseException:
            self._restore()
            raise
        finally:
            self.changes.clear()

    def close(self) -> None:
        """Give moto its own classes back and close the index; nothing is lost without it."""
        self._patches.close()
        self._backend.reset()
        with self._lock:
            self._database.close()

    def bucket_exists(self, bucket: str) -> bool:
        """Whether the bucket is there."""
        return bucket in self._backend.buckets

    def keys(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Every object whose key starts with `prefix`, by key; empty without the bucket."""
        if not self.bucket_exists(bucket):
            return []
        keys = self._keys(bucket)
        with self._backend.lock:
            found, _ = keys.listing(prefix, None, None, None)
        return [StoredObject(key.name, key.size, key.etag.strip('"')) for key in found]

    def link(self, bucket: str, key: str, path: Path) -> None:
        """Put an object at `path` (parents are made): a hard link, read-only, else a copy.

        Only for who reads it: a link is the object itself, which root could write through it.

        Raises:
            KeyError: it is not there.
        """
        self._put_at(bucket, key, path, place)

    def copy(self, bucket: str, key: str, path: Path) -> None:
        """Put a read-only copy of an object at `path` (parents are made).

        Raises:
            FileExistsError: something lies there.
            KeyError: the object is not there.
        """
        self._put_at(bucket, key, path, copy)

    def _put_at(self, bucket: str, key: str, path: Path, put: Callable[[Path, Path], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            content = self._object(bucket, key).content
            try:
                put(content.path, path)
            except FileNotFoundError:
                if self._object(bucket, key).content is content:
                    raise
            else:
                return

    def put(self, bucket: str, key: str, path: Path) -> None:
        """Keep a copy of a file as an object.

        Raises:
            OSError: the bucket is missing, or the disk is full; nothing is kept.
        """
        with self.request():
            content = self._contents.copy(path)
            self.changes.contents.append(content)
            try:
                self._backend.put_object(bucket, key, content)
            except MissingBucket:
                raise OSError(f"s3://{bucket}: no such bucket; create it first") from None

    def read(self, bucket: str, key: str) -> bytes:
        """An object's bytes.

        Raises:
            KeyError: it is not there.
        """
        while True:
            content = self._object(bucket, key).content
            try:
                return bytes(content.open())
            except FileNotFoundError:
                if self._object(bucket, key).content is content:
                    raise

    def delete(self, bucket: str, key: str) -> None:
        """Forget an object; one that is not there is no error."""
        with self.request(), contextlib.suppress(MissingBucket, KeyError):
            self._backend.delete_object(bucket, key)

    def _keys(self, bucket: str) -> TrackedKeys:
        return cast(TrackedKeys, self._backend.buckets[bucket].keys)

    def _object(self, bucket: str, key: str) -> StoredKey:
        found = self._backend.get_object(bucket, key) if self.bucket_exists(bucket) else None
        if not isinstance(found, StoredKey):
            raise KeyError(f"s3://{bucket}/{key}: no such object")
        return found

    def _keep(self) -> None:
        """Write what the request changed, then delete the files nobody needs any more."""
        if not self.changes.keys and not self.changes.contents:
            return
        needed: set[str | None] = set()
        gone: set[str | None] = {content.name for content in self.changes.contents}
        try:
            with self._lock:
                self._database.execute("BEGIN IMMEDIATE")
                for bucket, key in self.changes.keys:
                    kept = self._write(bucket, key)
                    gone.update(kept[0])
                    needed.update(kept[1])
                self._database.execute("COMMIT")
        except BaseException as error:
            with self._lock:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise OSError(f"{error}, writing the index of the objects") from error
            raise
        for name in gone - needed:
            if name is not None:
                self._contents.remove(name)

    def _write(self, bucket: str, key: str) -> tuple[set[str | None], set[str | None]]:
        place_of = (bucket, key)
        before = self._database.execute(
            "SELECT file FROM objects WHERE bucket = ? AND key = ?", place_of
        ).fetchall()
        self._database.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", place_of)
        rows = []
        if bucket in self._backend.buckets:
            versions = self._backend.buckets[bucket].keys.getlist(key, [])
            rows = [self._row(version) for version in versions]
        self._database.executemany(
            "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(*place_of, position, *row) for position, row in enumerate(rows)],
        )
        return {name for (name,) in before}, {row[0] for row in rows}

    def _restore(self) -> None:
        """Undo in memory what the index does not know."""
        for bucket, key in self.changes.keys:
            if bucket not in self._backend.buckets:
                continue
            with self._lock:
                rows = self._database.execute(
                    "SELECT bucket, key, file, size, md5, modified, state FROM objects "
                    "WHERE bucket = ? AND key = ? ORDER BY position",
                    (bucket, key),
                ).fetchall()
                versions = self._versions(bucket, key, rows)
            with self._backend.lock:
                self._keys(bucket).restore(key, versions)
        kept = {key.content.name for key in self._changed_objects()}
        leftovers = list(self.changes.contents)
        if self.changes.incoming is not None:
            leftovers.append(self.changes.incoming)
        for content in leftovers:
            if content.name not in kept:
                self._contents.remove(content.name)

    def _changed_objects(self) -> Iterator[StoredKey]:
        for bucket, key in self.changes.keys:
            if bucket in self._backend.buckets:
                versions = self._backend.buckets[bucket].keys.getlist(key, [])
                yield from (version for version in versions if isinstance(version, StoredKey))

    def _row(self, version: Any) -> tuple[str | None, int, str | None, float, str]:
        modified = version.last_modified.replace(tzinfo=UTC).timestamp()
        if not isinstance(version, StoredKey):
            return None, 0, None, modified, json.dumps({"version": version.version_id})
        state: dict[str, Any] = {
            "storage": version.storage_class,
            "etag": version._etag,
            "version": version._version_id,
            "versioned": version._is_versioned,
            "redirect": version.website_redirect_location,
            "algorithm": version.checksum_algorithm,
            "metadata": dict(version.metadata),
            "tags": self._backend.tagger.get_tag_dict_for_resource(version.arn),
            "upload": version.multipart.id if version.multipart else None,
            **{option: getattr(version, option) for option in OPTIONS},
        }
        if version.acl is not PRIVATE_ACL and version.acl is not None:
            state["acl"] = [
                [[[who.id, who.uri, who.display_name] for who in grant.grantees], grant.permissions]
                for grant in version.acl.grants
            ]
        if version._expiry is not None:
            state["expiry"] = version._expiry.replace(tzinfo=UTC).timestamp()
            state["restored"] = version._status
        told = {name: value for name, value in state.items() if value not in (None, False, {})}
        content = version.content
        return content.name, content.size, content.md5, modified, json.dumps(told)

    def _versions(self, bucket: str, key: str, rows: list[Any]) -> list[Any]:
        versions: list[Any] = []
        for _, _, file, size, md5, modified, text in rows:
            state = json.loads(text)
            if file is None:
                marker = models.FakeDeleteMarker(key=_Named(key))  # type: ignore[arg-type]
                marker.last_modified = _time(modified)
                marker._version_id = state["version"]
                if versions:
                    marker.key = versions[-1]
                versions.append(marker)
                continue
            version = StoredKey(
                key,
                self._contents.find(file, size, md5),
                account_id=ACCOUNT,
                region_name=PARTITION,
                bucket_name=bucket,
                storage=state.get("storage"),
                etag=state.get("etag"),
                last_modified=_time(modified),
                version_id=state.get("version"),
                is_versioned=state.get("versioned", False),
                **{option: state.get(option) for option in OPTIONS},
            )
            version.website_redirect_location = state.get("redirect")
            version.checksum_algorithm = state.get("algorithm")
            version.set_metadata(state.get("metadata", {}))
            if "acl" in state:
                version.acl = _acl(state["acl"])
            if "upload" in state:
                version.multipart = _Upload(state["upload"])  # type: ignore[assignment]
            if "expiry" in state:
                version._expiry = _time(state["expiry"])
                version._status = state.get("restored")
            if "tags" in state:
                tags = self._backend.tagger.convert_dict_to_tags_input(state["tags"])
                self._backend.tagger.delete_all_tags_for_resource(version.arn)
                self._backend.tagger.tag_resource(version.arn, tags)
            versions.append(version)
        return versions


class _Named:
    """The name a delete marker needs when the object it hides is gone."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Upload:
    """A finished upload: its id, so that completing it once more is no error."""

    def __init__(self, upload_id: str) -> None:
        self.id = upload_id
        self.parts: dict[int, StoredKey] = {}
        self.partlist: list[int] = []


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _acl(grants: list[Any]) -> models.FakeAcl:
    return models.FakeAcl(
        [
            models.FakeGrant([models.FakeGrantee(*who) for who in grantees], permissions)
            for grantees, permissions in grants
        ]
    )


@contextlib.contextmanager
def _instead_of_moto(backend: DurableS3) -> Iterator[None]:
    """Make one backend answer for every partition until the block ends."""
    ours: Any = models.s3_backends[ACCOUNT]
    before = ours.backend
    ours.clear()
    models.s3_backends.bucket_accounts.clear()  # which account has which bucket, outside of ours
    ours.backend = lambda region, account_id: backend  # noqa: ARG005 - moto's call
    try:
        yield
    finally:
        ours.clear()
        ours.backend = before


def _replace_classes(contents: Contents) -> contextlib.ExitStack:
    """Make moto's S3 use our classes until the stack is closed."""
    replaced: tuple[tuple[Any, str, Any], ...] = (
        (models, "FakeKey", StoredKey),
        (models, "FakeMultipart", StoredMultipart),
        (responses, "compute_checksum", checksum),
        (responses.S3Response, "list_objects_v2", list_objects_v2),
    )
    stack = contextlib.ExitStack()
    for module, name, ours in replaced:
        stack.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, ours)
    StoredMultipart.contents = contents
    return stack
