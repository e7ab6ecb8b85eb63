"""CloudWatch metrics of endpoint invocations, in the namespace `AWS/SageMaker`."""

import logging
import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

from local.emulator.ports import Logs, Statistics

NAMESPACE = "AWS/SageMaker"
UNITS = {
    "Invocations": "None",
    "InvocationsPerInstance": "None",
    "Invocation4XXErrors": "None",
    "Invocation5XXErrors": "None",
    "ModelLatency": "Microseconds",
    "OverheadLatency": "Microseconds",
}
"""Each metric's unit (developer guide, "SageMaker AI endpoint invocation metrics")."""
FLUSH_SECONDS = 0.5
"""Seconds until measurements are published, aggregated per variant and second."""

_log = logging.getLogger(__name__)

Key = tuple[str, str, int, str]


@dataclass(frozen=True)
class Measurement:
    """Measurements of an invocation.

    Attributes:
        status: the container's HTTP status; 0 if it did not respond.
        model: seconds until the container responded.
        overhead: seconds spent outside the container.
        instances: number of the variant's containers.
    """

    status: int
    model: float
    overhead: float
    instances: int

    def values(self) -> dict[str, float]:
        """The value for each metric."""
        return {
            "Invocations": 1,
            "InvocationsPerInstance": 1 / max(1, self.instances),
            "Invocation4XXErrors": float(400 <= self.status < 500),
            "Invocation5XXErrors": float(self.status == 0 or self.status >= 500),
            "ModelLatency": self.model * 1e6,
            "OverheadLatency": max(0.0, self.overhead) * 1e6,
        }


class EndpointMetrics:
    """Aggregates and publishes measurements; thread-safe."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._lock = threading.Lock()
        self._waiting: dict[Key, list[float]] = defaultdict(list)
        self._timer: threading.Timer | None = None

    def record(self, endpoint: str, variant: str, measurement: Measurement) -> None:
        """Record an invocation; it is published within a second."""
        second = int(datetime.now(UTC).timestamp())
        with self._lock:
            for name, value in measurement.values().items():
                self._waiting[endpoint, variant, second, name].append(value)
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Publish all recorded measurements."""
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        groups: dict[tuple[str, str], list[Statistics]] = defaultdict(list)
        for (endpoint, variant, second, name), values in waiting.items():
            groups[endpoint, variant].append(Statistics.of(name, UNITS[name], second, values))
        for (endpoint, variant), found in groups.items():
            dimensions = {"EndpointName": endpoint, "VariantName": variant}
            try:
                self._logs.put_statistics(NAMESPACE, dimensions, found)
            except OSError as error:
                _log.warning("endpoint %s: its metrics were not kept: %s", endpoint, error)
