"""Publishes the metrics in log events, as CloudWatch does for every log group."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local.emulator.aws.logs.metrics.embedded import DocumentError, embedded_metrics
from local.emulator.aws.logs.metrics.transformations import default_of, matches, metric_of
from local.emulator.aws.logs.store import GroupNotFound, LogStore
from local.emulator.errors import ServiceError
from local.emulator.ports import Point

FLUSH_SECONDS = 0.5
"""Longest delay of a point; points of a namespace are published together."""
BATCH = 1000
"""Most points in a PutMetricData request (API reference)."""
ERRORS = "AWS/Logs"
"""The namespace in which CloudWatch counts invalid documents, by log group."""

MINUTE = 60
"""Period in seconds for which a default value is published if events came but none matched."""

PutMetricData = Callable[[str, str, list[Point]], None]
"""Publishes a region's points in a namespace."""

logger = logging.getLogger(__name__)


@dataclass
class Unmatched:
    """A minute with events for a metric filter that has a default value.

    Attributes:
        minute: minutes since 1970.
        namespace, default: what to publish when it is over; None once an event has matched.
    """

    minute: int
    namespace: str
    default: Point | None


class LogMetrics:
    """Publishes metrics from log events; thread-safe.

    Args:
        logs: has the log groups' metric filters.
        put: publishes points.
        clock: returns seconds since 1970.
    """

    def __init__(
        self, logs: LogStore, put: PutMetricData, clock: Callable[[], float] = time.time
    ) -> None:
        self._logs, self._put, self._clock = logs, put, clock
        self._unmatched: dict[tuple[str, str, str], Unmatched] = {}
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], list[Point]] = defaultdict(list)
        self._timer: threading.Timer | None = None
        self._warned: set[tuple[str, str]] = set()

    def observe(self, region: str, group: str, events: Sequence[tuple[int, str]]) -> None:
        """Publish the metrics in a log group's (UTC milliseconds, message) events within a second.

        Invalid events are skipped.
        """
        found: list[tuple[str, Point]] = []
        for when, message in events:
            try:
                for namespace, points in embedded_metrics(message):
                    found += [(namespace, point) for point in points]
            except DocumentError as error:
                self._warn(region, group, str(error))
                name = [{"Name": "LogGroupName", "Value": group}]
                point = {"MetricName": error.metric, "Value": 1, "Unit": "Count"}
                found.append((ERRORS, point | {"Timestamp": when / 1000, "Dimensions": name}))
        found += self._filtered(region, group, events)
        if found:
            self._publish_soon(region, found)

    def close(self) -> None:
        """Publish all pending points, and discard the current minute."""
        with self._lock:
            self._settle(int(self._clock() // MINUTE))
            self._unmatched.clear()
        self.flush()

    def flush(self) -> None:
        """Publish all pending points."""
        with self._lock:
            self._settle(int(self._clock() // MINUTE))
            waiting, self._waiting = self._waiting, defaultdict(list)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            if self._unmatched:
                self._arm()
        for (region, namespace), points in waiting.items():
            for first in range(0, len(points), BATCH):
                try:
                    self._put(region, namespace, points[first : first + BATCH])
                except OSError as error:
                    logger.warning("metrics of %s were not kept: %s", namespace, error)

    def _filtered(
        self, region: str, group: str, events: Sequence[tuple[int, str]]
    ) -> list[tuple[str, Point]]:
        try:
            settings = self._logs.group(region, group).settings
        except GroupNotFound:  # deleted in the meantime
            return []
        found = []
        for one in settings.get("metricFilters", {}).values():
            pattern, [transformation, *_] = one["filterPattern"], one["metricTransformations"]
            try:
                hits = [event for event in events if matches(pattern, event[1])]
                made = [(when, metric_of(pattern, transformation, text)) for when, text in hits]
            except ServiceError as error:
                self._warn(region, group, f"metric filter {one['filterName']}: {error}")
                continue
            namespace, default = transformation["metricNamespace"], default_of(transformation)
            if default is not None:
                key = (region, group, one["filterName"])
                self._note(key, namespace, None if hits else default)
            found += [
                (namespace, point | {"Timestamp": when / 1000}) for when, point in made if point
            ]
        return found

    def _publish_soon(self, region: str, found: Sequence[tuple[str, Point]]) -> None:
        with self._lock:
            for namespace, point in found:
                self._waiting[region, namespace].append(point)
            self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(FLUSH_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _note(self, key: tuple[str, str, str], namespace: str, default: Point | None) -> None:
        """Record whether the filter has matched in this minute."""
        minute = int(self._clock() // MINUTE)
        with self._lock:
            self._settle(minute)
            now = self._unmatched.setdefault(key, Unmatched(minute, namespace, default))
            if default is None:
                now.default = None
            self._arm()

    def _settle(self, minute: int) -> None:
        """Queue the default values of the minutes before this one."""
        for key in [key for key, one in self._unmatched.items() if one.minute < minute]:
            one = self._unmatched.pop(key)
            if one.default is not None:
                point = one.default | {"Timestamp": float(one.minute * MINUTE)}
                self._waiting[key[0], one.namespace].append(point)

    def _warn(self, region: str, group: str, message: str) -> None:
        """Log why a log group's metrics are missing, once per group."""
        if (region, group) not in self._warned:
            self._warned.add((region, group))
            logger.warning("%s: %s", group, message)
