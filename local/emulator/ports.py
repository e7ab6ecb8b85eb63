"""The local S3 and CloudWatch as jobs and endpoints call them, without HTTP."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Point = dict[str, Any]
"""Values of a metric, as PutMetricData's `MetricData` has them; its time is UTC seconds."""


@dataclass(frozen=True)
class StoredObject:
    """An object in the local S3: its key, size in bytes, and ETag without quotes."""

    key: str
    size: int
    etag: str


class Objects(Protocol):
    """The local S3, without HTTP: what jobs read from and write to it."""

    def bucket_exists(self, bucket: str) -> bool:
        """Whether the bucket is there."""

    def keys(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Every object whose key starts with `prefix`, by key; empty without the bucket."""

    def link(self, bucket: str, key: str, path: Path) -> None:
        """Put an object at `path` (parents are made) to be read here: a hard link, else a copy."""

    def copy(self, bucket: str, key: str, path: Path) -> None:
        """Put a read-only copy of an object at `path` (parents are made): for a job to have."""

    def put(self, bucket: str, key: str, path: Path) -> None:
        """Keep a copy of a file as an object. A missing bucket is an OSError that names it."""

    def read(self, bucket: str, key: str) -> bytes:
        """An object's bytes. A missing one is a KeyError that names it."""

    def delete(self, bucket: str, key: str) -> None:
        """Forget an object; one that is not there is no error."""


@dataclass(frozen=True)
class Statistics:
    """Several values of a metric, put together.

    Attributes:
        name: the metric's.
        unit: one of CloudWatch's.
        when: UTC seconds.
        count, total, least, most: of the values.
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
        """The statistics of these values, of which there is one at least."""
        return cls(name, unit, when, len(values), sum(values), min(values), max(values))


class LogStream(Protocol):
    """One CloudWatch log stream being written."""

    def write(self, line: str) -> None:
        """Append a line now; readers see it within a second. From any thread."""

    def close(self) -> None:
        """Write what is left."""


class Logs(Protocol):
    """The local CloudWatch: log groups, streams and metrics."""

    def open(self, group: str, stream: str) -> LogStream:
        """Create a stream, or append to one; its group is created when missing."""

    def tail(self, group: str, stream_prefix: str, lines: int) -> list[str]:
        """The last lines of the group's streams with that prefix, oldest first."""

    def put_metrics(
        self,
        namespace: str,
        dimensions: dict[str, str],
        metrics: Iterable[tuple[str, float, float]],
    ) -> None:
        """Publish (name, value, UTC seconds) points to CloudWatch."""

    def put_statistics(
        self, namespace: str, dimensions: dict[str, str], found: Iterable[Statistics]
    ) -> None:
        """Publish values that were put together to CloudWatch."""
