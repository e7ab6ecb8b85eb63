"""Clients that each ask again as soon as they are answered."""

import http.client
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from servers.contenders import Contender


@dataclass(frozen=True)
class Load:
    """What a number of clients met: requests a second, and latencies in milliseconds, sorted."""

    rate: float
    latencies: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(0.99 * len(self.latencies)))]


def ask(connection: http.client.HTTPConnection, request: tuple[str, bytes, dict[str, str]]) -> None:
    """Send one request over a connection, which is kept where the server keeps it."""
    connection.request("POST", *request)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {answer[:500]!r}")


def load(contender: Contender, port: int, clients: int, seconds: float) -> Load:
    request = contender.request()
    started = time.perf_counter()

    def client() -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        latencies: list[float] = []
        while (sent := time.perf_counter()) - started < seconds:
            ask(connection, request)
            latencies.append(1000 * (time.perf_counter() - sent))
        connection.close()
        return latencies

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(client) for _ in range(clients)]
        latencies = sorted(latency for future in futures for latency in future.result())
    return Load(len(latencies) / (time.perf_counter() - started), latencies)
