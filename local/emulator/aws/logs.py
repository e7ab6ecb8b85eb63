"""The local CloudWatch: moto answers, log events and metric points lie in files."""

import contextlib
import copy
import json
import logging
import shutil
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from moto.cloudwatch import models as cloudwatch
from moto.cloudwatch import urls as metric_urls
from moto.logs import models as logs
from moto.logs import urls as log_urls
from moto.logs.exceptions import ResourceAlreadyExistsException, ResourceNotFoundException

from local.emulator.aws.filters import compile_pattern
from local.emulator.aws.log_files import GROUP_FILE, Event, EventFile, file_name
from local.emulator.context import ACCOUNT, Statistics

logger = logging.getLogger(__name__)

METRICS_KEPT = timedelta(days=15)
"""AWS keeps points of one-minute metrics 15 days (CloudWatch user guide, "Metrics retention")."""


class CloudWatch:
    """Log groups, streams and metrics. Every method may be called from any thread.

    One at a time in a process: moto's backends are the process's.
    """

    def __init__(self, folder: Path, region: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._logs = _Backends(logs.logs_backends, lambda name: DurableLogs(name, folder))
        self._metrics = _Backends(
            cloudwatch.cloudwatch_backends, lambda name: DurableMetrics(name, folder)
        )
        self._region = region

    def load(self) -> None:
        """Give moto every stream and every metric point the files hold."""
        for region in sorted(path.name for path in self._folder.iterdir() if path.is_dir()):
            self._backend(region).load()
        for path in sorted(self._folder.glob("metrics-*.jsonl")):
            region = path.stem.removeprefix("metrics-")
            self._metrics.get(region).load()
        self._logs.begin()
        self._metrics.begin()

    def in_region(self, region: str) -> "CloudWatch":
        """The same for what another region's jobs write; it is closed with this one."""
        there = copy.copy(self)
        there._region = region
        return there

    def close(self) -> None:
        """Give moto its own backends back."""
        self._logs.close()
        self._metrics.close()

    def open(self, group: str, stream: str) -> "Writer":
        """Make (or go on with) a stream; its group is made when missing."""
        backend = self._backend(self._region)
        with self._lock:
            backend.ensure_log_group(group)
            backend.ensure_log_stream(group, stream)
            return Writer(backend.groups[group].streams[stream])

    def tail(self, group: str, stream_prefix: str, lines: int) -> list[str]:
        """The last lines of the group's streams with that prefix, oldest first."""
        found = self._backend(self._region).groups.get(group)
        if found is None or lines <= 0:
            return []
        events = [
            event
            for name, stream in list(found.streams.items())
            if name.startswith(stream_prefix)
            for event in stream.file.events()[-lines:]
        ]
        return [event.message for event in sorted(events, key=_timestamp)[-lines:]]

    def in_moto_terms(self, region: str, asked: dict[str, Any]) -> dict[str, Any]:
        """A FilterLogEvents request as moto understands it.

        moto knows no logStreamNamePrefix, and puts events in the order of time only when told to,
        which AWS does always.

        Raises:
            ServiceError: its filterPattern cannot be read.
        """
        asked = {**asked, "interleaved": True}
        compile_pattern(asked.get("filterPattern") or "")
        prefix = asked.pop("logStreamNamePrefix", None)
        if prefix is not None:
            group = self._backend(region).groups.get(asked.get("logGroupName"))
            names = [] if group is None else list(group.streams)
            # No names would mean all of them; no stream is called "".
            asked["logStreamNames"] = [name for name in names if name.startswith(prefix)] or [""]
        return asked

    def put_metrics(
        self,
        namespace: str,
        dimensions: dict[str, str],
        metrics: Iterable[tuple[str, float, float]],
    ) -> None:
        """Publish (name, value, UTC seconds) points to CloudWatch."""
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        data = [
            {
                "MetricName": name,
                "Value": value,
                "Timestamp": datetime.fromtimestamp(when, UTC).replace(tzinfo=None),
                "Dimensions": named,
            }
            for name, value, when in metrics
        ]
        if data:
            self._metrics.get(self._region).put_metric_data(namespace, data)

    def put_statistics(
        self, namespace: str, dimensions: dict[str, str], found: Iterable[Statistics]
    ) -> None:
        """Publish values that were put together to CloudWatch."""
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        data = [
            {
                "MetricName": each.name,
                "Unit": each.unit,
                "Timestamp": datetime.fromtimestamp(each.when, UTC).replace(tzinfo=None),
                "Dimensions": named,
                "StatisticValues": {
                    "SampleCount": each.count,
                    "Sum": each.total,
                    "Minimum": each.least,
                    "Maximum": each.most,
                },
            }
            for each in found
        ]
        self._metrics.get(self._region).put_metric_data(namespace, data)

    def _backend(self, region: str) -> Any:
        return self._logs.get(region)


class Writer:
    """A log stream that is being written."""

    def __init__(self, stream: "StoredStream") -> None:
        self._stream = stream
        self._lost = 0

    def write(self, line: str) -> None:
        """Append a line now; a full disk loses the line and not the job."""
        now = time.time_ns() // 1_000_000
        try:
            self._stream.append([(now, now, line)])
        except OSError as error:
            if not self._lost:
                logger.warning("log stream %s loses lines: %s", self._stream.log_stream_name, error)
            self._lost += 1

    def close(self) -> None:
        """Nothing is left to write: every line is in the file at once."""


class StoredEvent:
    """An event as moto's answers need it."""

    __slots__ = ("event_id", "ingestion_time", "message", "timestamp")

    def __init__(self, event: Event, first_id: int) -> None:
        self.timestamp, self.ingestion_time = event.timestamp, event.ingestion
        self.message, self.event_id = event.message, first_id + event.number

    def to_filter_dict(self) -> dict[str, Any]:
        """Its form in FilterLogEvents."""
        return self.to_response_dict() | {"eventId": f"{self.event_id:056d}"}

    def to_response_dict(self) -> dict[str, Any]:
        """Its form in GetLogEvents."""
        return {
            "ingestionTime": self.ingestion_time,
            "message": self.message,
            "timestamp": self.timestamp,
        }


class StoredStream(logs.LogStream):
    """A stream whose events are read from its file when they are asked for."""

    def __init__(self, log_group: logs.LogGroup, file: EventFile) -> None:
        self.file = file
        super().__init__(log_group, file.stream)
        self.creation_time = _naive(file.created)
        self._first_id = int.from_bytes(self.arn.encode()[-16:], "big") * 10**9

    @property
    def events(self) -> Any:
        """Every event."""
        return [StoredEvent(event, self._first_id) for event in self.file.events()]

    @events.setter
    def events(self, _value: Any) -> None:
        """The file is what counts."""

    def filter_log_events(
        self, start_time: int, end_time: int, filter_pattern: str | None
    ) -> list[dict[str, Any]]:
        """The events of a time that match a pattern, in the order of time; moto knows few."""
        matches = compile_pattern(filter_pattern or "")
        found = [
            event
            for event in self.events
            if (not start_time or event.timestamp >= start_time)
            and (not end_time or event.timestamp <= end_time)
            and matches(event.message)
        ]
        found.sort(key=lambda event: event.timestamp)
        return [
            {**event.to_filter_dict(), "logStreamName": self.log_stream_name} for event in found
        ]

    def append(self, events: list[tuple[int, int, str]]) -> None:
        """Write (timestamp, ingestion, message) events."""
        self.file.append(events)

    def put_log_events(self, log_events: list[dict[str, Any]]) -> str:
        """Write events that came by the API."""
        now = time.time_ns() // 1_000_000
        self.append([(event["timestamp"], now, event["message"]) for event in log_events])
        self.upload_sequence_token += 1
        return f"{self.upload_sequence_token:056d}"

    def to_describe_dict(self) -> dict[str, Any]:
        """Its form in DescribeLogStreams."""
        described = {
            "arn": self.arn,
            "creationTime": self.file.created,
            "logStreamName": self.log_stream_name,
            "storedBytes": 0,  # as AWS answers since June 2019
        }
        if events := self.file.events():
            times = [event.timestamp for event in events]
            described |= {
                "firstEventTimestamp": min(times),
                "lastEventTimestamp": max(times),
                "lastIngestionTime": events[-1].ingestion,
                "uploadSequenceToken": str(self.upload_sequence_token),
            }
        return described


class DurableLogs(logs.LogsBackend):
    """moto's logs of one region, in `<folder>/<region>/<group>/<stream>.jsonl`.

    Until `begin` it is told again what it was told before: files are left alone.
    """

    def __init__(self, region_name: str, folder: Path) -> None:
        super().__init__(region_name, ACCOUNT)
        self._folder = folder / region_name
        self._begun = False

    @property
    def _url_module(self) -> Any:
        return log_urls

    def load(self) -> None:
        """Take every group and stream there are files of."""
        for path in sorted(self._folder.glob(f"*/{GROUP_FILE}")):
            try:
                head = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:  # killed while it was made: no stream in it yet
                continue
            if head["group"] not in self.groups:
                super().ensure_log_group(head["group"])
                self.groups[head["group"]].creation_time = _naive(head["created"])
            group = self.groups[head["group"]]
            for file in sorted(path.parent.glob("*.jsonl")):
                if found := EventFile.find(file):
                    group.streams[found.stream] = StoredStream(group, found)

    def begin(self) -> None:
        """From now on deleting is meant."""
        self._begun = True

    def ensure_log_group(self, log_group_name: str) -> None:
        """Make a group unless it is there."""
        super().ensure_log_group(log_group_name)
        self._group_folder(log_group_name)

    def create_log_stream(self, log_group_name: str, log_stream_name: str) -> None:
        """Make a stream."""
        if log_group_name not in self.groups:
            raise ResourceNotFoundException
        group = self.groups[log_group_name]
        if log_stream_name in group.streams:
            raise ResourceAlreadyExistsException
        created = time.time_ns() // 1_000_000
        file = EventFile.create(self._group_folder(log_group_name), log_stream_name, created)
        group.streams[log_stream_name] = StoredStream(group, file)

    def delete_log_stream(self, log_group_name: str, log_stream_name: str) -> None:
        """Delete a stream and its file."""
        group = self.groups.get(log_group_name)
        stream = group.streams.get(log_stream_name) if group else None
        super().delete_log_stream(log_group_name, log_stream_name)
        if isinstance(stream, StoredStream):
            stream.file.path.unlink(missing_ok=True)

    def delete_log_group(self, log_group_name: str) -> None:
        """Delete a group and its files."""
        super().delete_log_group(log_group_name)
        if self._begun:
            shutil.rmtree(self._folder / file_name(log_group_name), ignore_errors=True)

    def _group_folder(self, group: str) -> Path:
        folder = self._folder / file_name(group)
        head = folder / GROUP_FILE
        if not head.exists():
            folder.mkdir(parents=True, exist_ok=True)
            created = time.time_ns() // 1_000_000
            if group in self.groups:
                self.groups[group].creation_time = _naive(created)
            content = {"group": group, "created": created}
            draft = head.with_suffix(".new")
            draft.write_text(json.dumps(content), encoding="utf-8")
            draft.replace(head)
        return folder


class DurableMetrics(cloudwatch.CloudWatchBackend):
    """moto's metrics of one region, their points in `<folder>/metrics-<region>.jsonl`."""

    def __init__(self, region_name: str, folder: Path) -> None:
        super().__init__(region_name, ACCOUNT)
        self._path = folder / f"metrics-{region_name}.jsonl"
        self._writing = threading.Lock()

    @property
    def _url_module(self) -> Any:
        return metric_urls

    def load(self) -> None:
        """Take the points that are young enough, and forget the others for good."""
        oldest = (datetime.now(UTC) - METRICS_KEPT).timestamp()
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                namespace, data = json.loads(line)
            except ValueError:  # killed while it was written: never acknowledged
                continue
            young = [point for point in data if point["Timestamp"] >= oldest]
            if young:
                kept.append(_line([namespace, young]))
                super().put_metric_data(namespace, [_point(point) for point in young])
        draft = self._path.with_suffix(".new")
        draft.write_text("".join(kept), encoding="utf-8")
        draft.replace(self._path)

    def begin(self) -> None:
        """Nothing to do: points are never told again by request."""

    def put_metric_data(self, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        """Keep points."""
        now = datetime.now(UTC)
        data = [point | {"Timestamp": point.get("Timestamp") or now} for point in metric_data]
        plain = [point | {"Timestamp": _seconds(point["Timestamp"])} for point in data]
        with self._writing:
            super().put_metric_data(namespace, [_point(point) for point in plain])
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line([namespace, plain]))


class _Backends:
    """moto's backends of our account by region, replaced by ours until closed."""

    def __init__(self, backends: Any, make: Any) -> None:
        self._ours = backends[ACCOUNT]
        self._before = self._ours.backend
        self._ours.clear()
        self._ours.backend = lambda region, account_id: make(region)  # noqa: ARG005 - moto's call

    def get(self, region: str) -> Any:
        return self._ours[region]

    def begin(self) -> None:
        make = self._ours.backend
        for backend in self._ours.values():
            backend.begin()

        def begun(region: str, account_id: str) -> Any:
            backend = make(region, account_id)
            backend.begin()
            return backend

        self._ours.backend = begun

    def close(self) -> None:
        self._ours.clear()
        self._ours.backend = self._before


def _point(point: dict[str, Any]) -> dict[str, Any]:
    return point | {
        "Timestamp": datetime.fromtimestamp(point["Timestamp"], UTC).replace(tzinfo=None)
    }


def _seconds(when: datetime) -> float:
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _naive(milliseconds: int) -> datetime:
    """As moto keeps times; in the millisecond's middle, for moto cuts off what is below one."""
    return datetime.fromtimestamp((milliseconds + 0.5) / 1000, UTC).replace(tzinfo=None)


def _timestamp(event: Event) -> int:
    return event.timestamp


def _line(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"
