"""What clients told moto to change, kept in SQLite and told to it again at every start.

moto lives in memory. A request that changed something is written here before its answer is sent,
with its time and the seed its random names came from, so that a role has the same id and the same
creation date after a restart.
"""

import base64
import contextlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, cast

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
CLOCKS = ("iam", "ecr", "cloudwatch")
"""moto's services whose models ask for the time by `utcnow`."""


@dataclass(frozen=True)
class Request:
    """A request as moto needs it again.

    Attributes:
        service: the service's signing name.
        region: of the credential scope.
        method: HTTP method.
        target: path and query as they came.
        headers: those that mean something; no credentials.
        body: the body.
        time: when it was first told, UTC seconds.
        seed: what its random names are drawn from.
    """

    service: str
    region: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    time: float = field(default_factory=time.time)
    seed: int = field(default_factory=lambda: random.SystemRandom().getrandbits(64))

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self) | {"body": base64.b64encode(self.body).decode()})

    @classmethod
    def read(cls, text: str) -> "Request":
        """From JSON."""
        values = json.loads(text)
        return cls(**values | {"body": base64.b64decode(values["body"])})


class Journal:
    """The requests, in order. Every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)
        self._lock = threading.Lock()

    def add(self, request: Request) -> int:
        """Keep a request that is about to be told; gives its number.

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
        """Forget a request that was refused."""
        with self._lock:
            self._database.execute("DELETE FROM requests WHERE number = ?", (number,))

    def settle(self, number: int, subject: str) -> None:
        """Say that a request set something as a whole, e.g. one repository's lifecycle policy.

        Earlier ones with the same subject are forgotten: setting it every day costs nothing.
        """
        with self._lock:
            self._database.execute(
                "DELETE FROM requests WHERE subject = ? AND number < ?", (subject, number)
            )
            self._database.execute(
                "UPDATE requests SET subject = ? WHERE number = ?", (subject, number)
            )

    def name(self, number: int, names: Iterable[str]) -> None:
        """Say what a request names, so that it is forgotten with it."""
        with self._lock:
            self._database.executemany(
                "INSERT OR IGNORE INTO names VALUES (?, ?)", [(name, number) for name in names]
            )

    def forget(self, name: str, number: int) -> None:
        """Forget every request up to this number that names what is gone by it."""
        with self._lock:
            self._database.execute(
                "DELETE FROM requests WHERE number IN "
                "(SELECT number FROM names WHERE name = ? AND number <= ?)",
                (name, number),
            )

    def unset(self, subject: str, number: int) -> None:
        """Forget the requests up to this number that set this as a whole, or take it back."""
        with self._lock:
            self._database.execute(
                "DELETE FROM requests WHERE subject = ? AND number <= ?", (subject, number)
            )

    def named(self, names: Iterable[str], number: int) -> dict[int, set[str]]:
        """The requests before this number that name any of these, each with all it names."""
        found: dict[int, set[str]] = {}
        query = (
            "SELECT number, name FROM names WHERE number IN "
            "(SELECT number FROM names WHERE name = ? AND number < ?)"
        )
        with self._lock:
            for name in names:
                for row, other in self._database.execute(query, (name, number)):
                    found.setdefault(row, set()).add(other)
        return found

    def numbered(self) -> list[tuple[int, Request]]:
        """All requests and their numbers, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT number, request FROM requests ORDER BY number"
            ).fetchall()
        return [(number, Request.read(text)) for number, text in rows]

    def requests(self) -> list[Request]:
        """All of them, oldest first."""
        return [request for _, request in self.numbered()]

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._database.close()


class Names(random.Random):
    """A source of randomness that each thread may seed for itself."""

    _of_thread = threading.local()

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """While the block runs, this thread draws from `seed`."""
        self._of_thread.source = random.Random(seed)  # noqa: S311 - names, not secrets
        try:
            yield
        finally:
            del self._of_thread.source

    def random(self) -> float:
        """A float in [0, 1)."""
        source = getattr(self._of_thread, "source", None)
        return source.random() if source else super().random()

    def getrandbits(self, count: int, /) -> int:
        """An integer of `count` random bits."""
        source = getattr(self._of_thread, "source", None)
        return source.getrandbits(count) if source else super().getrandbits(count)


class Clock:
    """moto's time and randomness, so that a request told again does what it did.

    Replaces them in moto's modules until it is closed.
    """

    def __init__(self) -> None:
        from moto.ecr import models as ecr
        from moto.moto_api._internal import moto_random

        self._told = threading.local()
        self._stack = contextlib.ExitStack()
        self._names = _names(moto_random)
        for service in CLOCKS:
            models = __import__(f"moto.{service}.models", fromlist=["utcnow"])
            self._replace(models, "utcnow", self.now)
        self._replace(ecr, "datetime", _datetime_of(self))

    def now(self) -> datetime:
        """The time, UTC without a zone: now, or that of the request this thread tells."""
        told: datetime | None = getattr(self._told, "time", None)
        return told or datetime.now(UTC).replace(tzinfo=None)

    @contextlib.contextmanager
    def telling(self, request: Request) -> Iterator[None]:
        """While the block runs, this thread's time stands still at the request's.

        moto's random names come from the request's seed.
        """
        self._told.time = datetime.fromtimestamp(request.time, UTC).replace(tzinfo=None)
        try:
            with self._names.seeded(request.seed):
                yield
        finally:
            del self._told.time

    def close(self) -> None:
        """Give moto its own back."""
        self._stack.close()

    def _replace(self, module: Any, name: str, ours: Any) -> None:
        self._stack.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, ours)


def _names(moto_random: Any) -> Names:
    """moto's one source of randomness, made to be seeded by thread."""
    from moto.moto_api._internal import mock_random

    if not isinstance(mock_random, Names):
        kind = type("SeededNames", (moto_random.MotoRandom, Names), {})
        # The object is shared by name between moto's modules: it changes its class in place.
        mock_random.__class__ = kind
    return cast(Names, mock_random)


def _datetime_of(clock: Clock) -> type[datetime]:
    class ClockDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "ClockDatetime":
            now = clock.now().replace(tzinfo=UTC)
            return cls.fromtimestamp(now.timestamp(), tz)

    return ClockDatetime
