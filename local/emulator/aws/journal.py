"""The journal: requests that changed moto's state, stored in SQLite and replayed after a restart.

moto keeps its state in memory. A request that changes it is stored before it is answered, with its
time and the seed of its random names, so that a role keeps its ID and creation date. Requests that
later ones supersede are deleted: see `compaction`.
"""

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from local.emulator.aws.requests import Request

SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT, request TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS subjects ON requests (subject);
CREATE TABLE IF NOT EXISTS names (
    name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, number)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS forgotten AFTER DELETE ON requests
    BEGIN DELETE FROM names WHERE number = old.number; END;
CREATE INDEX IF NOT EXISTS numbers ON names (number);
"""


class Journal:
    """The requests, in order; thread-safe."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)
        self._lock = threading.Lock()

    def add(self, request: Request) -> int:
        """Store a request before it is sent, and return its number.

        Raises:
            OSError: it could not be written (the disk is full).
        """
        try:
            with self._lock:
                row = self._database.execute(
                    "INSERT INTO requests (request) VALUES (?)", (request.text(),)
                )
        except sqlite3.Error as error:
            raise OSError(f"{error}, writing the journal of requests") from error
        return int(row.lastrowid or 0)

    def remove(self, number: int) -> None:
        """Delete a request."""
        self._execute("DELETE FROM requests WHERE number = ?", number)

    def settle(self, number: int, subject: str) -> None:
        """Store which setting a request replaces, e.g. a repository's lifecycle policy.

        Earlier requests with the same subject are deleted.
        """
        self._execute("DELETE FROM requests WHERE subject = ? AND number < ?", subject, number)
        self._execute("UPDATE requests SET subject = ? WHERE number = ?", subject, number)

    def name(self, number: int, names: Iterable[str]) -> None:
        """Store which resources a request names, so that it is deleted with them."""
        for name in names:
            self._execute("INSERT OR IGNORE INTO names VALUES (?, ?)", name, number)

    def forget(self, name: str, number: int) -> None:
        """Delete every request up to this number that has this name."""
        self._execute(
            "DELETE FROM requests WHERE number IN "
            "(SELECT number FROM names WHERE name = ? AND number <= ?)",
            name,
            number,
        )

    def unset(self, subject: str, number: int) -> None:
        """Delete the requests with this subject up to this number."""
        self._execute("DELETE FROM requests WHERE subject = ? AND number <= ?", subject, number)

    def named(self, names: Iterable[str], number: int) -> dict[int, set[str]]:
        """The requests before this number with any of these names, each with all its names."""
        found: dict[int, set[str]] = {}
        query = (
            "SELECT number, name FROM names WHERE number IN "
            "(SELECT number FROM names WHERE name = ? AND number < ?)"
        )
        for name in names:
            for row, other in self._execute(query, name, number):
                found.setdefault(row, set()).add(other)
        return found

    def numbered(self) -> list[tuple[int, Request]]:
        """All requests and their numbers, oldest first."""
        rows = self._execute("SELECT number, request FROM requests ORDER BY number")
        return [(number, Request.read(text)) for number, text in rows]

    def close(self) -> None:
        """Close the file; no data is lost if this is not called."""
        with self._lock:
            self._database.close()

    def _execute(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()
