"""Closed-loop load generation: each client sends its next request when the last one is answered."""

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

PAUSE = 0.1
"""Seconds a client waits after a failed request: rejections are fast, and an overloaded server
should not be measured by how fast it rejects."""


@dataclass(frozen=True)
class Level:
    """The measurement at one concurrency.

    Attributes:
        concurrency: concurrent requests.
        seconds: time from the first request to the last response.
        latencies: latencies of the successful requests in seconds, ascending.
        errors: number of failed requests by error message.
        client_cpu: CPU seconds per second that the client used.
    """

    concurrency: int
    seconds: float
    latencies: Sequence[float]
    errors: Mapping[str, int] = field(default_factory=dict)
    client_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return len(self.latencies) / self.seconds

    @property
    def mean(self) -> float:
        """Mean latency in seconds; infinite if no request succeeded."""
        return sum(self.latencies) / len(self.latencies) if self.latencies else math.inf

    @property
    def error_share(self) -> float:
        """Share of the requests that failed, 0 to 1."""
        failed = sum(self.errors.values())
        return failed / max(1, failed + len(self.latencies))

    def percentile(self, percent: float) -> float:
        """Nearest-rank percentile of the latencies in seconds; infinite if no request succeeded."""
        if not self.latencies:
            return math.inf
        return self.latencies[max(0, math.ceil(percent / 100 * len(self.latencies)) - 1)]


def measure(send: Callable[[int], str | None], concurrency: int, seconds: float) -> Level:
    """Keep `concurrency` requests in flight for `seconds`.

    Each client sends at least one. Requests in flight at the end are waited for and counted.

    Args:
        send: sends the n-th request and returns None, or one line on why it failed; called from
            several threads. An exception ends the measurement.
        concurrency: number of requests in flight.
        seconds: time to send requests for.
    """
    numbers = itertools.count()
    stopped = threading.Event()
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    used, started = time.process_time(), time.perf_counter()

    def client() -> float:
        while True:
            began = time.perf_counter()
            failed = send(next(numbers))
            if failed is None:
                latencies.append(time.perf_counter() - began)
            else:
                errors[failed] += 1
                stopped.wait(PAUSE)
            ended = time.perf_counter()
            if stopped.is_set() or ended >= started + seconds:
                return ended

    with ThreadPoolExecutor(concurrency) as threads:
        running = [threads.submit(client) for _ in range(concurrency)]
        try:
            ended = max(client.result() for client in as_completed(running))
        finally:
            stopped.set()
    cpu = (time.process_time() - used) / (ended - started)
    return Level(concurrency, ended - started, tuple(sorted(latencies)), dict(errors), cpu)
