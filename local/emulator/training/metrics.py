"""Metrics in a job's log lines, by the metric definitions of its request."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import regex

LONGEST_LINE = 8192
"""Most characters of a line that are searched."""
PATIENCE = 0.25
"""Most seconds a regular expression may take for a line. It normally takes microseconds; one that
takes longer has catastrophic backtracking, and is not used any more in this job."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetricPoint:
    """A measured value.

    Attributes:
        name: name in the metric definition.
        value: the value the container printed, which may not be finite.
        timestamp: Unix time of the line.
    """

    name: str
    value: float
    timestamp: float


def read_metrics(path: Path) -> list[MetricPoint]:
    """Read the metrics in a file, in order; truncated lines are skipped."""
    if not path.exists():
        return []
    metrics = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            metrics.append(MetricPoint(**json.loads(line)))
        except (ValueError, TypeError):
            _log.warning("%s: skipped an invalid line: %.80r", path, line)
    return metrics


def latest(names: Iterable[str], metrics: Iterable[MetricPoint]) -> list[dict[str, Any]]:
    """`FinalMetricDataList`: each metric's last finite value, in the order of `names`."""
    last = {metric.name: metric for metric in metrics if math.isfinite(metric.value)}
    return [
        {
            "MetricName": name,
            "Value": last[name].value,
            "Timestamp": datetime.fromtimestamp(last[name].timestamp, UTC),
        }
        for name in names
        if name in last
    ]


class MetricWatch:
    """Finds metrics in lines and stores them in memory and in a JSON Lines file.

    Args:
        definitions: the `MetricDefinitions` of the request.
        path: the file, whose existing metrics come first.
        warn: called with a line about a definition that cannot be used.
    """

    def __init__(
        self, definitions: list[dict[str, str]], path: Path, warn: Callable[[str], None]
    ) -> None:
        self._names = [definition["Name"] for definition in definitions]
        self._warn = warn
        self._lock = threading.Lock()
        self._metrics = read_metrics(path)
        self._published = len(self._metrics)
        self._patterns: dict[str, regex.Pattern[str]] = {}
        for definition in definitions:
            try:
                self._patterns[definition["Name"]] = regex.compile(definition["Regex"])
            except regex.error as error:
                warn(f"metric {definition['Name']}: its regular expression is not used: {error}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, line: str) -> None:
        """Find all metrics in a line; thread-safe."""
        now = time.time()
        for name, pattern in list(self._patterns.items()):
            for value in self._values(name, pattern, line[:LONGEST_LINE]):
                self._keep(MetricPoint(name, value, now))

    def every(self) -> list[MetricPoint]:
        """The metrics so far, in order."""
        with self._lock:
            return list(self._metrics)

    def unpublished(self) -> list[MetricPoint]:
        """The metrics since the last call."""
        with self._lock:
            new = self._metrics[self._published :]
            self._published = len(self._metrics)
        return new

    def final(self) -> list[dict[str, Any]]:
        """`FinalMetricDataList` for the metrics so far."""
        return latest(self._names, self.every())

    def unseen(self) -> dict[str, str]:
        """The regular expressions that have not matched so far, by metric."""
        seen = {metric.name for metric in self.every()}
        return {
            name: pattern.pattern for name, pattern in self._patterns.items() if name not in seen
        }

    def _values(self, name: str, pattern: "regex.Pattern[str]", line: str) -> list[float]:
        try:
            # `concurrent` releases the GIL for the server's other threads.
            found = list(pattern.finditer(line, timeout=PATIENCE, concurrent=True))
        except TimeoutError:
            self._patterns.pop(name, None)
            self._warn(
                f"metric {name}: its regular expression took over {PATIENCE} s for a line and is "
                "not used any more; rewrite it to avoid backtracking"
            )
            return []
        values = []
        for match in found:
            text = match.group(1) if pattern.groups else match.group()
            try:
                values.append(float(text))
            except (TypeError, ValueError):
                continue
        return values

    def _keep(self, metric: MetricPoint) -> None:
        with self._lock:
            self._metrics.append(metric)
            try:
                self._file.write(json.dumps(asdict(metric)) + "\n")
            except (OSError, ValueError) as error:
                _log.warning("%s: a metric could not be stored: %s", self._file.name, error)
