"""Interfaces of the local S3 and CloudWatch that jobs and endpoints call without HTTP."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Point = dict[str, Any]
"""An item of PutMetricData's `MetricData`, with Unix time."""


@dataclass(frozen=True)
class StoredObject:
    """An object in the local S3: its key, size in bytes, and ETag without quotes."""

    key: str
    size: int
    etag: str


class Objects(Protocol):
    """The local S3."""

    def bucket_exists(self, bucket: str) -> bool:
        """Whether the bucket exists."""

    def keys(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """The objects whose key starts with `prefix`, by key; empty without the bucket."""

    def link(self, bucket: str, key: str, path: Path) -> None:
        """Hard-link or copy an object to `path`, for the emulator to read; creates the parents."""

    def copy(self, bucket: str, key: str, path: Path) -> None:
        """Copy an object to `path`, read-only, for a job to use; creates the parents."""

    def put(self, bucket: str, key: str, path: Path) -> None:
        """Store a copy of a file. A missing bucket is an OSError that names it."""

    def read(self, bucket: str, key: str) -> bytes:
        """Read an object. A missing one is a KeyError that names it."""

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; a missing one is not an error."""


@dataclass(frozen=True)
class Statistics:
    """A statistic set: several values of a metric, aggregated.

    Attributes:
        name: the metric's name.
        unit: a CloudWatch unit.
        when: Unix time.
        count, total, least, most: number, sum, minimum and maximum of the values.
    """

    name: str
    unit: str
    when: float
    count: int
    total: float
    least: float
    most: float

    @classmethod
    def of(cls, name: str, unit: str, when: float, values: Sequence[float]) -> "Statistics":
        """Aggregate one or more values."""
        return cls(name, unit, when, len(values), sum(values), min(values), max(values))


class LogStream(Protocol):
    """A CloudWatch log stream that is being written."""

    def write(self, line: str) -> None:
        """Append a line; readers see it within a second. Thread-safe."""

    def close(self) -> None:
        """Flush the stream."""


class Logs(Protocol):
    """The local CloudWatch: log groups, streams and metrics."""

    def open(self, group: str, stream: str) -> LogStream:
        """Create a stream and its group, or append to an existing stream."""

    def tail(self, group: str, stream_prefix: str, lines: int) -> list[str]:
        """The last lines of the group's streams with the prefix, oldest first."""

    def put_metrics(
        self,
        namespace: str,
        dimensions: dict[str, str],
        metrics: Iterable[tuple[str, float, float]],
    ) -> None:
        """Publish (name, value, Unix time) points."""

    def put_statistics(
        self, namespace: str, dimensions: dict[str, str], found: Iterable[Statistics]
    ) -> None:
        """Publish aggregated values to CloudWatch."""
