"""CloudWatch metrics as lines in the log, in the embedded metric format (EMF).

CloudWatch extracts metrics from such lines in any log group, including SageMaker's, so the
container needs no permissions and sends no requests:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

A document has up to 100 invocations of one minute. Request threads only append to a lock-free
queue; a separate thread writes.
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
"""Longest line of several invocations: a write to a pipe is atomic up to this size (pipe(7),
PIPE_BUF)."""

MINUTE = 60
"""Seconds that a document covers: CloudWatch's resolution of metrics."""

TICK = 1.0
"""Seconds between two reads of the queue."""

COUNTS = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors", "Images")
TIMES = ("Latency", "DecodeTime", "QueueTime", "ComputeTime")
"""Metrics in milliseconds, one value per invocation."""
METRIC_NAMES = frozenset({*COUNTS, *TIMES, "_aws"})
"""Names that dimensions must not have."""


class _Invocation(NamedTuple):
    ended: float
    status: int
    images: int
    times: tuple[float, ...]


class EmbeddedMetrics:
    """Writes the invocations of one worker process.

    Args:
        namespace: CloudWatch namespace of the metrics.
        dimensions: names and values of the metrics' dimensions, the same in every document.
        write: writes a line, which includes the newline.
        clock: returns seconds since 1970.
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
        """Record an invocation whose response was sent after `seconds`."""
        stages = (record.decode, record.queue, record.compute) if status == 200 else ()
        times = tuple(round(each * 1000, 1) for each in (seconds, *stages))
        # Appending to a deque is atomic.
        self._ended.append(_Invocation(self._clock(), status, record.images, times))

    def stop(self) -> None:
        """Write all remaining documents and stop the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            self._collect()
        self._collect()
        self._flush()

    def _collect(self) -> None:
        """Write documents that are full or whose minute is over."""
        now = self._clock()
        for _ in range(len(self._ended)):
            invocation = self._ended.popleft()
            if self._minute and _minute(self._minute[0].ended) != _minute(invocation.ended):
                self._flush()
            self._minute.append(invocation)
            if len(self._minute) == VALUES:
                self._flush()
        if self._minute and _minute(self._minute[0].ended) != _minute(now):
            self._flush()

    def _flush(self) -> None:
        for line in self._lines(self._minute):
            # A closed log must not stop the server.
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
