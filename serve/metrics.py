"""Prometheus metrics at /metrics: invocations, images, time per stage, models.

Invocations are counted after their response is sent, so none waits for it. A single worker counts
in memory. Several workers, one per GPU, count in files of the folder PROMETHEUS_MULTIPROC_DIR,
which `serve.gunicorn_conf` sets, and the one that answers a scrape adds them up.
"""

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from flask import Flask, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from serve.embedded_metrics import EmbeddedMetrics
from serve.records import InvocationRecord

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's variable for the folder where several processes count."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 55.0)
"""Bounds of the histograms, from a small network's pass to the longest invocation."""


STARTING_SECONDS = 5.0
"""Seconds for which a worker's new file may be empty."""


@dataclass(frozen=True)
class ModelDescription:
    """A model that is being served.

    Attributes:
        name: its name on a multi-model endpoint; empty on other endpoints.
        arch: its architecture.
        engine: the name of its engine.
        classes: number of classes.
    """

    name: str
    arch: str
    engine: str
    classes: int


class Metrics:
    """The metrics of one server.

    Args:
        models: returns the models being served.
        waiting: returns the number of images waiting for an engine.
        embedded: also writes CloudWatch metrics, if configured.
    """

    def __init__(
        self,
        models: Callable[[], Iterable[ModelDescription]],
        waiting: Callable[[], int],
        embedded: EmbeddedMetrics | None = None,
    ) -> None:
        self._models, self._waiting, self._embedded = models, waiting, embedded
        self._several = FOLDER in os.environ
        registry = self._registry = CollectorRegistry()
        self._invocations = Counter(
            "berth_invocations",
            "Invocations answered, by HTTP status.",
            ["status"],
            registry=registry,
        )
        self._images = Counter("berth_images", "Images predicted.", registry=registry)
        self._received = Counter(
            "berth_received_bytes",
            "Bytes of the invocations' bodies, inflated.",
            registry=registry,
        )
        self._seconds = Histogram(
            "berth_invocation_seconds",
            "Seconds from an invocation's headers to the end of its response.",
            buckets=SECONDS,
            registry=registry,
        )
        stages = Histogram(
            "berth_stage_seconds",
            "Seconds of an invocation with status 200 spent in a stage: decode, queue, compute.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._decode, self._queue, self._compute = map(
            stages.labels, ("decode", "queue", "compute")
        )
        self._length = Gauge(
            "berth_queue_images",
            "Images that wait for an engine.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._model = Gauge(
            "berth_model_info",
            "1 for each model that is being served.",
            ["model", "arch", "engine", "classes"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def observe(self, record: InvocationRecord, status: int, seconds: float) -> None:
        """Count an invocation whose response was sent after `seconds`."""
        self._invocations.labels(str(status)).inc()
        self._received.inc(record.received)
        self._seconds.observe(seconds)
        if self._several:
            # Other workers answer scrapes too.
            self._length.set(self._waiting())
        if status == 200:
            self._images.inc(record.images)
            self._decode.observe(record.decode)
            self._queue.observe(record.queue)
            self._compute.observe(record.compute)
        if self._embedded is not None:
            self._embedded.observe(record, status, seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        self._length.set(self._waiting())
        if not self._several:
            self._model.clear()
        for model in self._models():
            self._model.labels(model.name, model.arch, model.engine, str(model.classes)).set(1)
        return _added_up() if self._several else generate_latest(self._registry)

    def register(self, app: Flask) -> None:
        """Add GET /metrics to an application."""

        @app.get("/metrics")
        def metrics() -> Response:
            return Response(self.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _added_up() -> bytes:
    """The sums of all workers' metrics."""
    registry = CollectorRegistry()
    collector: Any = MultiProcessCollector  # has no types
    collector(registry)
    until = monotonic() + STARTING_SECONDS
    while True:
        try:
            return generate_latest(registry)
        except struct.error:  # prometheus_client reads a file that another worker has just made
            if monotonic() > until:
                raise
            sleep(0.005)
