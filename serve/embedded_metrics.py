"""CloudWatch's metrics, as documents in the log: the embedded metric format (EMF).

CloudWatch makes metrics of such lines in any log group, SageMaker's as well, without a permission
or a request of the container's:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

A document holds up to 100 invocations of one minute. A request's thread only puts its numbers into
a queue that needs no lock; a thread of its own writes.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import time
from typing import NamedTuple

from serve.records import InvocationRecord

VALUES = 100
"""Most values of a metric in one document (the specification's target members)."""

LINE_BYTES = 4096
"""Longest line of several invocations: Linux writes so much to a pipe in one piece, however many
workers write to it (pipe(7), PIPE_BUF)."""

MINUTE = 60
"""Seconds that a document covers: what CloudWatch keeps metrics by."""

TICK = 1.0
"""Seconds between looks at the queue."""

COUNTS = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors", "Images")
TIMES = ("Latency", "DecodeTime", "QueueTime", "ComputeTime")
"""Metrics in milliseconds, a value an invocation."""
METRIC_NAMES = frozenset({*COUNTS, *TIMES, "_aws"})
"""Members of a document that no dimension may be named like."""


class _Invocation(NamedTuple):
    ended: float
    status: int
    images: int
    times: tuple[float, ...]


class EmbeddedMetrics:
    """Writes the invocations of one worker process.

    Args:
        namespace: CloudWatch's namespace of the metrics.
        dimensions: names and values that identify them, the same in every document.
        write: takes a line with its end.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        namespace: str,
        dimensions: Mapping[str, str],
        *,
        write: Callable[[bytes], object] = lambda line: os.write(1, line),
        clock: Callable[[], float] = time,
    ) -> None:
        self._namespace, self._dimensions = namespace, dict(dimensions)
        self._write, self._clock = write, clock
        self._ended: deque[_Invocation] = deque()
        self._minute: list[_Invocation] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded metrics", daemon=True)
        self._thread.start()

    def observe(self, record: InvocationRecord, status: int, seconds: float) -> None:
        """Take an invocation whose response was sent after `seconds`."""
        stages = (record.decode, record.queue, record.compute) if status == 200 else ()
        times = tuple(round(each * 1000, 1) for each in (seconds, *stages))
        # Appending to a deque is atomic.
        self._ended.append(_Invocation(self._clock(), status, record.images, times))

    def stop(self) -> None:
        """Write what is left."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            self._collect()
        self._collect()
        self._put_out()

    def _collect(self) -> None:
        """Write the documents that are full and those of minutes that are over."""
        now = self._clock()
        for _ in range(len(self._ended)):
            invocation = self._ended.popleft()
            if self._minute and _minute(self._minute[0].ended) != _minute(invocation.ended):
                self._put_out()
            self._minute.append(invocation)
            if len(self._minute) == VALUES:
                self._put_out()
        if self._minute and _minute(self._minute[0].ended) != _minute(now):
            self._put_out()

    def _put_out(self) -> None:
        for line in self._lines(self._minute):
            # A log that nobody reads any more must not end the server.
            with suppress(OSError):
                self._write(line)
        self._minute = []

    def _lines(self, invocations: Sequence[_Invocation]) -> Iterator[bytes]:
        if not invocations:
            return
        document = self._document(invocations)
        line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        if len(line) <= LINE_BYTES or len(invocations) == 1:
            yield line
            return
        middle = len(invocations) // 2
        yield from self._lines(invocations[:middle])
        yield from self._lines(invocations[middle:])

    def _document(self, invocations: Sequence[_Invocation]) -> dict[str, object]:
        families = [invocation.status // 100 for invocation in invocations]
        images = sum(each.images for each in invocations if each.status == 200)
        counts = (len(invocations), families.count(4), families.count(5), images)
        values: dict[str, object] = dict(zip(COUNTS, counts, strict=True))
        for place, name in enumerate(TIMES):
            if times := [each.times[place] for each in invocations if len(each.times) > place]:
                values[name] = times
        metrics = [
            {"Name": name, "Unit": "Milliseconds" if name in TIMES else "Count"} for name in values
        ]
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [list(self._dimensions)],
            "Metrics": metrics,
        }
        timestamp = int(invocations[0].ended * 1000)
        head = {"Timestamp": timestamp, "CloudWatchMetrics": [directive]}
        return {"_aws": head} | self._dimensions | values


def _minute(seconds: float) -> int:
    return int(seconds // MINUTE)
