"""The state of the local SageMaker in SQLite, which survives `berth down` and a killed server."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    kind TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL UNIQUE,
    created REAL NOT NULL, modified REAL NOT NULL,
    body TEXT NOT NULL, private TEXT NOT NULL,
    PRIMARY KEY (kind, name));
CREATE TABLE IF NOT EXISTS tags (
    arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key));
"""


class Kind(StrEnum):
    """The kinds of resources, named as in ARNs."""

    TRAINING_JOB = "training-job"
    TUNING_JOB = "hyper-parameter-tuning-job"
    TRANSFORM_JOB = "transform-job"
    MODEL = "model"
    ENDPOINT_CONFIG = "endpoint-config"
    ENDPOINT = "endpoint"


class Exists(Exception):
    """The name is in use; the message is the resource's ARN."""


class Missing(Exception):
    """There is no resource of this kind and name."""


@dataclass
class Record:
    """One resource.

    Attributes:
        kind: its kind.
        name: its name, unique within its kind.
        arn: its ARN.
        created: time of creation, UTC.
        modified: time of the last change, UTC; `Store.update` sets it.
        body: its Describe response, in the API's shape and with datetimes.
        private: the emulator's own data; JSON values.
    """

    kind: Kind
    name: str
    arn: str
    created: datetime
    modified: datetime
    body: dict[str, Any]
    private: dict[str, Any] = field(default_factory=dict)


class Store:
    """All resources and tags; thread-safe.

    Attributes:
        changed: notified after every write.
        writes: the number of writes.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.executescript(SCHEMA)
        self._lock = threading.RLock()
        self.changed = threading.Condition()
        self.writes = 0

    def close(self) -> None:
        """Close the database; every write is already on disk."""
        with self._lock:
            self._database.close()

    def add(
        self,
        kind: Kind,
        name: str,
        arn: str,
        body: dict[str, Any],
        private: dict[str, Any] | None = None,
    ) -> Record:
        """Add a resource.

        Raises:
            Exists: the name is in use.
        """
        now = datetime.now(UTC)
        record = Record(kind, name, arn, now, now, body, private or {})
        try:
            with self._writing() as database:
                database.execute(
                    "INSERT INTO resources VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (kind, name, arn, now.timestamp(), now.timestamp(), *_texts(record)),
                )
        except sqlite3.IntegrityError:
            raise Exists(arn) from None
        return record

    def get(self, kind: Kind, name: str) -> Record:
        """A copy of a resource.

        Raises:
            Missing: it does not exist.
        """
        with self._lock:
            row = self._database.execute(
                "SELECT * FROM resources WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        if row is None:
            raise Missing(name)
        return _record(row)

    def find(self, arn: str) -> Record | None:
        """The resource with this ARN; None if there is none."""
        with self._lock:
            row = self._database.execute("SELECT * FROM resources WHERE arn = ?", (arn,)).fetchone()
        return None if row is None else _record(row)

    def every(self, kind: Kind) -> list[Record]:
        """Every resource of a kind, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT * FROM resources WHERE kind = ? ORDER BY created, name", (kind,)
            ).fetchall()
        return [_record(row) for row in rows]

    def update(self, kind: Kind, name: str, change: Callable[[Record], None]) -> Record:
        """Change a resource in one transaction and return its new state.

        `change` edits `body` and `private` in place; if it raises, nothing is changed. It must not
        block.

        Raises:
            Missing: it does not exist.
        """
        with self._writing() as database:
            record = self.get(kind, name)
            change(record)
            record.modified = datetime.now(UTC)
            if "LastModifiedTime" in record.body:
                record.body["LastModifiedTime"] = record.modified
            database.execute(
                "UPDATE resources SET modified = ?, body = ?, private = ? "
                "WHERE kind = ? AND name = ?",
                (record.modified.timestamp(), *_texts(record), kind, name),
            )
        return record

    def delete(self, kind: Kind, name: str) -> None:
        """Delete a resource and its tags.

        Raises:
            Missing: it does not exist.
        """
        with self._writing() as database:
            arn = self.get(kind, name).arn
            database.execute("DELETE FROM tags WHERE arn = ?", (arn,))
            database.execute("DELETE FROM resources WHERE kind = ? AND name = ?", (kind, name))

    def tags(self, arn: str) -> dict[str, str]:
        """A resource's tags, sorted by key."""
        with self._lock:
            rows = self._database.execute(
                "SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)
            ).fetchall()
        return dict(rows)

    def tag(self, arn: str, tags: dict[str, str]) -> None:
        """Add tags; an existing key gets the new value."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)",
                [(arn, key, value) for key, value in tags.items()],
            )

    def untag(self, arn: str, keys: list[str]) -> None:
        """Remove tags; a missing key is not an error."""
        with self._writing() as database:
            database.executemany(
                "DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys]
            )

    def wait(self, after: int, timeout: float) -> None:
        """Wait until `writes` differs from `after`, for up to `timeout` seconds."""
        with self.changed:
            self.changed.wait_for(lambda: self.writes != after, timeout)

    def wake(self) -> None:
        """Make `wait` return in all threads."""
        with self.changed:
            self.writes += 1
            self.changed.notify_all()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # If the disk is full, SQLite may have rolled back already.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        self.wake()


def _texts(record: Record) -> tuple[str, str]:
    return json.dumps(record.body, default=_encode), json.dumps(record.private)


def _encode(value: object) -> dict[str, float]:
    if isinstance(value, datetime):
        return {"$time": value.timestamp()}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _decode(value: dict[str, Any]) -> Any:
    return datetime.fromtimestamp(value["$time"], UTC) if value.keys() == {"$time"} else value


def _record(row: tuple[str, str, str, float, float, str, str]) -> Record:
    kind, name, arn, created, modified, body, private = row
    return Record(
        Kind(kind),
        name,
        arn,
        datetime.fromtimestamp(created, UTC),
        datetime.fromtimestamp(modified, UTC),
        json.loads(body, object_hook=_decode),
        json.loads(private),
    )
