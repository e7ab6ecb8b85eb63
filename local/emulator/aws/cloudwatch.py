"""CloudWatch as jobs use it: log lines, and metric data that is kept across restarts.

moto serves metrics from memory. Their points are stored in `<folder>/metrics-<region>.jsonl` and
sent to moto again after a restart.
"""

import copy
import json
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from local.emulator.aws.logs.metrics.publisher import LogMetrics, PutMetricData
from local.emulator.aws.logs.store import LogStore, StreamWriter
from local.emulator.aws.metric_index import MetricIndex
from local.emulator.aws.requests import Request
from local.emulator.errors import ServiceError
from local.emulator.ports import Point, Statistics

METRICS_KEPT = timedelta(days=15)
"""AWS keeps one-minute metrics for 15 days (CloudWatch user guide, "Metrics retention")."""
BATCH = 1000
"""Most points in a PutMetricData request (API reference)."""
NUMBERS = {"Value", "Sum", "Minimum", "Maximum", "SampleCount", "Values", "Counts"}
STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
"""The statistics that moto computes; it does not support percentiles and trimmed means."""
MEMBER = re.compile(r"\.member\.(\d+)\.?|\.")


class MetricStore:
    """Metric data of every region, as files in a folder. Not thread-safe.

    Attributes:
        index: the known metrics, after `load`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.index = MetricIndex()

    def load(self) -> Iterator[tuple[str, str, list[Point]]]:
        """Yield the points of the last 15 days by region and namespace, and delete older ones."""
        oldest = (datetime.now(UTC) - METRICS_KEPT).timestamp()
        for path in sorted(self._folder.glob("metrics-*.jsonl")):
            lines, kept = [], dict[str, list[Point]]()
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    namespace, points = json.loads(line)
                except ValueError:  # truncated when the server was killed: never acknowledged
                    continue
                young = [point for point in points if point["Timestamp"] >= oldest]
                if young:
                    lines.append(_line([namespace, young]))
                    kept.setdefault(namespace, []).extend(young)
            draft = path.with_suffix(".new")
            draft.write_text("".join(lines), encoding="utf-8")
            draft.replace(path)
            region = path.stem.removeprefix("metrics-")
            for namespace, points in kept.items():
                self.index.add(region, namespace, points)
                for first in range(0, len(points), BATCH):
                    yield region, namespace, points[first : first + BATCH]

    def keep(self, region: str, namespace: str, points: list[Point]) -> None:
        """Append points; those without a timestamp get the current time."""
        now = time.time()
        timed = [point | {"Timestamp": _seconds(point.get("Timestamp"), now)} for point in points]
        with (self._folder / f"metrics-{region}.jsonl").open("a", encoding="utf-8") as file:
            file.write(_line([namespace, timed]))
        self.index.add(region, namespace, timed)


class CloudWatch:
    """The logs and metrics that a region's jobs write, without HTTP. Thread-safe."""

    def __init__(
        self, logs: LogStore, metrics: LogMetrics, put: PutMetricData, region: str
    ) -> None:
        self._logs, self._metrics, self._put, self._region = logs, metrics, put, region

    def in_region(self, region: str) -> "CloudWatch":
        """The same for the jobs of another region."""
        there = copy.copy(self)
        there._region = region
        return there

    def open(self, group: str, stream: str) -> StreamWriter:
        """Open a log stream to append to; create it and its log group if missing."""
        file = self._logs.ensure_stream(self._region, group, stream)
        return StreamWriter(file, partial(self._metrics.observe, self._region, group))

    def tail(self, group: str, stream_prefix: str, lines: int) -> list[str]:
        """The last lines of the log group's streams with this prefix, oldest first."""
        return self._logs.tail(self._region, group, stream_prefix, lines)

    def put_metrics(
        self,
        namespace: str,
        dimensions: dict[str, str],
        metrics: Iterable[tuple[str, float, float]],
    ) -> None:
        """Publish (name, value, UTC seconds) points."""
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        points = [
            {"MetricName": name, "Value": value, "Timestamp": when, "Dimensions": named}
            for name, value, when in metrics
        ]
        if points:
            self._put(self._region, namespace, points)

    def put_statistics(
        self, namespace: str, dimensions: dict[str, str], found: Iterable[Statistics]
    ) -> None:
        """Publish sets of statistics."""
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        points = [
            {
                "MetricName": each.name,
                "Unit": each.unit,
                "Timestamp": each.when,
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
        if points:
            self._put(self._region, namespace, points)


def read_request(request: Request) -> tuple[str, list[Point]]:
    """The namespace and the points of a PutMetricData request."""
    members = members_of(request)
    return members["Namespace"], members.get("MetricData", [])


def check_statistics(request: Request) -> None:
    """Check that GetMetricStatistics or GetMetricData requests supported statistics.

    Raises:
        ServiceError: it requests others, such as percentiles.
    """
    members = members_of(request)
    wanted = [*members.get("Statistics", []), *members.get("ExtendedStatistics", [])]
    for query in members.get("MetricDataQueries", []):
        wanted += [query["MetricStat"].get("Stat")] if "MetricStat" in query else []
    for one in wanted:
        if one not in STATISTICS:
            raise ServiceError(
                "InvalidParameterValue",
                f"The statistic {one!r} is not made by the local CloudWatch; expected "
                f"{', '.join(STATISTICS[:-1])} or {STATISTICS[-1]}.",
            )


def members_of(request: Request) -> dict[str, Any]:
    """A request's members as nested dicts and lists, in every protocol."""
    form = request.headers["CONTENT_TYPE"].startswith("application/x-www-form-urlencoded")
    return _nested(request.members) if form else request.members


def _nested(form: dict[str, str]) -> dict[str, Any]:
    """Nest the members of a form, e.g. `MetricData.member.1.Dimensions.member.2.Name`."""
    tree: dict[str, Any] = {}
    for name, value in form.items():
        *parents, last = [part for part in MEMBER.split(name) if part]
        number = "Dimensions" not in parents and not {last, *parents[-1:]}.isdisjoint(NUMBERS)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = float(value) if number else value
    return {name: _listed(value) for name, value in tree.items()}


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_listed(node[key]) for key in sorted(node, key=int)]
    return {key: _listed(value) for key, value in node.items()}


def _seconds(when: Any, now: float) -> float:
    """Convert a request's timestamp to UTC seconds; `now` if it has none."""
    if when is None:
        return now
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(when)


def _line(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"
