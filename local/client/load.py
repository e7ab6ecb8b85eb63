"""A closed loop of clients: so many requests at once, each followed by the next when answered."""

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

PAUSE = 0.1
"""Seconds before a client whose request failed sends the next: a refusal takes no time, and a
server that refuses what is too much is not to be measured at refusing."""


@dataclass(frozen=True)
class Level:
    """One concurrency, kept up for a while.

    Attributes:
        concurrency: requests at once; each is followed by the next as soon as it is answered.
        seconds: from the first request to the last answer.
        latencies: seconds of each request that was answered, ascending.
        errors: requests that failed, counted by their line.
        client_cpu: processor seconds the sender used in a second.
    """

    concurrency: int
    seconds: float
    latencies: Sequence[float]
    errors: Mapping[str, int] = field(default_factory=dict)
    client_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def mean(self) -> float:
        """Seconds of an answered request; infinite when there was none."""
        return sum(self.latencies) / len(self.latencies) if self.latencies else math.inf

    @property
    def error_share(self) -> float:
        """Failed requests among all, 0 to 1."""
        failed = sum(self.errors.values())
        return failed / max(1, failed + len(self.latencies))

    def percentile(self, percent: float) -> float:
        """The nearest-rank percentile of the latencies, in seconds; infinite without an answer."""
        if not self.latencies:
            return math.inf
        return self.latencies[max(0, math.ceil(percent / 100 * len(self.latencies)) - 1)]


def measure(send: Callable[[int], str | None], concurrency: int, seconds: float) -> Level:
    """Keep `concurrency` requests under way for `seconds`.

    A request that is under way at the end is waited for and counts.

    Args:
        send: sends the n-th request, in one of several threads; returns None, or the line that
            says why it failed. What it raises ends the measurement.
    """
    numbers = itertools.count()
    stopped = threading.Event()
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    used, started = time.process_time(), time.perf_counter()

    def client() -> float:
        began = started
        while not stopped.is_set() and (began := time.perf_counter()) < started + seconds:
            failed = send(next(numbers))
            if failed is None:
                latencies.append(time.perf_counter() - began)
            else:
                errors[failed] += 1
                stopped.wait(PAUSE)
        return time.perf_counter()

    with ThreadPoolExecutor(concurrency) as threads:
        running = [threads.submit(client) for _ in range(concurrency)]
        try:
            ended = max(client.result() for client in as_completed(running))
        finally:
            stopped.set()
    cpu = (time.process_time() - used) / (ended - started)
    return Level(concurrency, ended - started, tuple(sorted(latencies)), dict(errors), cpu)
