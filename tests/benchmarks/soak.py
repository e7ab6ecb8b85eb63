"""A server at saturation, a tenth of its requests hostile: what it holds stays flat.

    python tests/benchmarks/soak.py [--minutes 10] [--clients 8] [--arch resnet18]

Clients send photographs without a pause over connections they keep. A tenth of what they send is
damaged, cut short, a bomb, for another path, or a connection that is left half-open. Every half
minute a line: requests a second, statuses, and the memory, threads and descriptors of the server's
processes. The end compares the second tenth of the time with the last, and checks that good
requests were answered 200 or, when too many came at once, 503. The exit status is 1 if not.
"""

import argparse
import gzip
import http.client
import random
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from servers.artifact import build_artifact, picture
from servers.contenders import ours
from servers.process import running

HOSTILE = 0.1
"""The share of hostile requests."""
SAMPLE = 1.0
"""Seconds between looks at the server's processes."""
GROWTH = 1.05
"""The most by which memory may grow: the allocator's own ups and downs."""


@dataclass(frozen=True)
class Sample:
    """What the server's processes hold."""

    at: float
    memory: float
    """Megabytes of resident memory that no other process shares."""
    threads: int
    descriptors: int


class Soak:
    """Clients and a monitor, for one server."""

    def __init__(self, port: int, pid: int, seconds: float) -> None:
        self.port, self.seconds = port, seconds
        self.server = psutil.Process(pid)
        self.good = picture()
        self.started = time.monotonic()
        self.statuses: Counter[tuple[bool, object]] = Counter()
        self.samples: list[Sample] = []
        self.lock = threading.Lock()

    @property
    def over(self) -> bool:
        return time.monotonic() - self.started > self.seconds

    def client(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self.over:
            hostile = chance.random() < HOSTILE
            try:
                status = (
                    chance.choice(ATTACKS)(self, connection, chance)
                    if hostile
                    else (send(connection, self.good, {"Content-Type": "image/jpeg"}))
                )
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                connection.close()
            with self.lock:
                self.statuses[hostile, status] += 1
            if status == 503:
                time.sleep(0.05)
        connection.close()

    def monitor(self) -> None:
        reported, before = self.started, 0
        while not self.over:
            self.samples.append(self.sample())
            now = time.monotonic()
            if now - reported >= 30:
                with self.lock:
                    done, statuses = self.statuses.total(), dict(self.statuses)
                last = self.samples[-1]
                print(
                    f"{now - self.started:5.0f} s  {(done - before) / (now - reported):6.1f}/s  "
                    f"{last.memory:6.1f} MB  {last.threads} threads  "
                    f"{last.descriptors} descriptors  {counted(statuses)}",
                    flush=True,
                )
                reported, before = now, done
            time.sleep(SAMPLE)

    def sample(self) -> Sample:
        processes = [self.server, *self.server.children(recursive=True)]
        memory, threads, descriptors = 0.0, 0, 0
        for process in processes:
            try:
                memory += process.memory_full_info().uss / 1e6
                threads += process.num_threads()
                descriptors += process.num_fds()
            except psutil.NoSuchProcess:  # a decoder's, which has ended
                continue
        return Sample(time.monotonic() - self.started, memory, threads, descriptors)


def send(
    connection: http.client.HTTPConnection,
    body: bytes,
    headers: dict[str, str],
    path: str = "/invocations",
    method: str = "POST",
) -> int:
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    response.read()
    return response.status


Attack = Callable[[Soak, http.client.HTTPConnection, random.Random], object]


def damaged(soak: Soak, connection: http.client.HTTPConnection, chance: random.Random) -> object:
    data = bytearray(soak.good)
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return send(
        connection, bytes(data[: chance.randrange(len(data))]), {"Content-Type": "image/jpeg"}
    )


def huge(_soak: Soak, connection: http.client.HTTPConnection, _chance: random.Random) -> object:
    """A PNG that says it has a gigapixel."""
    header = struct.pack(">IIBBBBB", 32768, 32768, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + header + b"\0\0\0\0"
    return send(connection, body, {"Content-Type": "image/png"})


def bomb(_soak: Soak, connection: http.client.HTTPConnection, _chance: random.Random) -> object:
    """A hundred megabytes of nothing, compressed."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return send(connection, BOMB, headers)


def deep(_soak: Soak, connection: http.client.HTTPConnection, _chance: random.Random) -> object:
    """JSON nested a hundred thousand times."""
    return send(connection, b'{"instances":' + b"[" * 100_000, {"Content-Type": "application/json"})


def elsewhere(_soak: Soak, connection: http.client.HTTPConnection, _: random.Random) -> object:
    return send(connection, b"x", {"Content-Type": "image/png"}, path="/../etc/passwd")


def half_open(soak: Soak, _connection: http.client.HTTPConnection, chance: random.Random) -> object:
    """A connection that says half of what it has to, and is left."""
    lost = socket.create_connection(("127.0.0.1", soak.port), timeout=120)
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab"
    lost.sendall(head[: chance.randrange(len(head))])
    threading.Timer(chance.random() * 5, lost.close).start()
    return "half-open"


ATTACKS: tuple[Attack, ...] = (damaged, huge, bomb, deep, elsewhere, half_open)
BOMB = gzip.compress(bytes(100_000_000))


def counted(statuses: dict[tuple[bool, object], int]) -> str:
    """Good and hostile requests by what was answered."""
    groups = []
    for hostile, name in ((False, "good"), (True, "hostile")):
        each = sorted(
            (str(status), count) for (bad, status), count in statuses.items() if bad == hostile
        )
        groups.append(f"{name}: " + ", ".join(f"{status} {count:,}" for status, count in each))
    return "; ".join(groups)


def judge(soak: Soak) -> list[str]:
    """What was not as it should be, a line each; prints the comparison."""
    tenth = soak.seconds / 10
    early = [sample for sample in soak.samples if tenth <= sample.at < 2 * tenth]
    late = [sample for sample in soak.samples if sample.at >= 9 * tenth]
    problems = []
    for name in ("memory", "threads", "descriptors"):
        before, after = (
            statistics.median(getattr(sample, name) for sample in part) for part in (early, late)
        )
        print(f"{name:12} second tenth {before:8.1f}  last tenth {after:8.1f}")
        if after > before * GROWTH + (4 if name != "memory" else 0):
            problems.append(f"{name} grew from {before:.1f} to {after:.1f}")
    wrong = {
        status: count
        for (hostile, status), count in soak.statuses.items()
        if not hostile and status not in (200, 503)
    }
    if wrong:
        problems.append(f"good requests that were not answered: {wrong}")
    served = {status for (hostile, status) in soak.statuses if hostile}
    if odd := {status for status in served if isinstance(status, int) and status >= 500} - {503}:
        problems.append(f"hostile requests that broke something: {sorted(odd)}")
    return problems


def main() -> int:
    """Soak the server; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_artifact(Path(folder), given.arch)
        with running(ours(Path(folder), "float32")) as server:
            soak = Soak(server.port, server.process.pid, given.minutes * 60)
            clients = [
                threading.Thread(target=soak.client, args=(given.seed + number,))
                for number in range(given.clients)
            ]
            for client in clients:
                client.start()
            soak.monitor()
            for client in clients:
                client.join()
            print(counted(dict(soak.statuses)))
            problems = judge(soak)
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    print(f"{soak.statuses.total() / soak.seconds:.1f} requests/s over {soak.seconds:.0f} s")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
