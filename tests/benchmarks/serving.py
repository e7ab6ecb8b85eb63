"""How fast and how small `serve` is beside other servers, and beside no server at all.

    python tests/benchmarks/serving.py [--arch resnet50] [--rounds 3] [--seconds 5] [--peers all]

All serve the same network with random weights from the same artifact, on the CPU, to the same
clients: `serve` in each precision the processor has; Flask and gunicorn with a worker a core, as
SageMaker's examples do; LitServe, mosec, Ray Serve and TorchServe with their own batching, in
environments of their own, which the first run installs. Each peer is there twice: with one worker
and all threads, and tuned, with a worker a core and one thread each. `alone` decodes and predicts
in one process, without HTTP. `--peers none` leaves the peers out, `--peers flask,ray` takes those.

In every round each server is started, timed until its first prediction, asked by 1, 4 and 16
clients, and stopped. Rounds alternate, so that what else the machine does meets all. The table
gives medians over rounds, and as what carries over to other machines, medians of the ratios within
a round.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from servers.artifact import ROOT, build_artifact
from servers.contenders import PEER_SERVERS, Contender, contenders, cores
from servers.process import running
from servers.traffic import Load, ask, load

CLIENTS = (1, 4, 16)


@dataclass(frozen=True)
class Figures:
    """What one round measured.

    Seconds until the first prediction; requests a second and latencies in milliseconds by number
    of clients; milliseconds of processor time for a request at 4, which a busy machine hardly
    changes; megabytes.
    """

    rates: dict[int, float]
    p50: dict[int, float]
    p99: dict[int, float]
    ready: float | None = None
    work: float | None = None
    memory: float | None = None


def measure(contender: Contender, seconds: float, remembered: int) -> Figures:
    """Start the server and put it under load; then `remembered` requests before memory is read."""
    with running(contender) as server:
        for clients in CLIENTS[:2]:
            load(contender, server.port, clients, seconds / 4)
        loads: dict[int, Load] = {}
        for clients in CLIENTS:
            before = server.cpu_seconds()
            loads[clients] = load(contender, server.port, clients, seconds)
            if clients == CLIENTS[1]:
                spent = server.cpu_seconds() - before
        used = remember(contender, server.port, remembered, server.memory) if remembered else None
        return Figures(
            {clients: each.rate for clients, each in loads.items()},
            {clients: each.p50 for clients, each in loads.items()},
            {clients: each.p99 for clients, each in loads.items()},
            server.ready,
            1000 * spent / len(loads[CLIENTS[1]].latencies),
            used,
        )


def remember(contender: Contender, port: int, requests: int, memory: Callable[[], float]) -> float:
    """Megabytes once `requests` more are answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for _ in range(requests):
        ask(connection, contender.request())
    connection.close()
    return memory()


def alone(base: Path, precision: str, seconds: float) -> Figures:
    """Decoding and the forward pass without a server."""
    script = Path(__file__).parent / "servers" / "alone.py"
    done = subprocess.run(
        [sys.executable, str(script), str(base / "model"), precision, str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    found = json.loads(done.stdout)
    rates = {clients: found["many" if clients > 1 else "one"] for clients in CLIENTS}
    return Figures(rates, {1: found["milliseconds"]}, {}, work=found["work"])


COLUMNS: dict[str, tuple[Callable[[Figures], float | None], str]] = {
    "ready, s": (lambda each: each.ready, "{:.2f}"),
    "1 client, /s": (lambda each: each.rates[1], "{:.1f}"),
    "4, /s": (lambda each: each.rates[4], "{:.1f}"),
    "16, /s": (lambda each: each.rates[16], "{:.1f}"),
    "p50 of 1, ms": (lambda each: each.p50[1], "{:.1f}"),
    "p50 of 4, ms": (lambda each: each.p50.get(4), "{:.1f}"),
    "p99 of 4, ms": (lambda each: each.p99.get(4), "{:.1f}"),
    "core ms each": (lambda each: each.work, "{:.1f}"),
    "PSS, MB": (lambda each: each.memory, "{:.0f}"),
}


def show(measured: dict[str, list[Figures]]) -> None:
    versions = [f"{name} {version(name)}" for name in ("openvino", "torch", "flask", "gunicorn")]
    when = time.strftime("%Y-%m-%d")
    print(f"\n{when}, {platform.machine()}, {cores()} cores", *versions, sep=", ")
    print(f"{'':28}", *(f"{title:>12}" for title in COLUMNS))
    for name, figures in measured.items():
        print(f"{name:28}", *(cell(read, style, figures) for read, style in COLUMNS.values()))
    print()
    for ours in (name for name in measured if name.startswith("serve")):
        for other in measured:
            if other != ours:
                ratios(measured, ours, other)


def cell(read: Callable[[Figures], float | None], style: str, figures: list[Figures]) -> str:
    column = [value for each in figures if (value := read(each)) is not None]
    return f"{style.format(statistics.median(column)) if column else '':>12}"


def ratios(measured: dict[str, list[Figures]], ours: str, other: str) -> None:
    """Print a row: medians over the rounds of one contender's figures divided by another's."""
    row = []
    for read, _ in COLUMNS.values():
        pairs = [(read(a), read(b)) for a, b in zip(measured[ours], measured[other], strict=True)]
        known = [a / b for a, b in pairs if a is not None and b is not None]
        row.append(f"{f'{statistics.median(known):.2f}' if known else '':>12}")
    print(f"{f'{ours} / {other}':28}", *row)


def chosen(words: str) -> list[str]:
    names = {"all": list(PEER_SERVERS), "none": []}.get(words, words.split(","))
    if unknown := set(names) - set(PEER_SERVERS):
        raise argparse.ArgumentTypeError(
            f"found {', '.join(unknown)}, expected all, none or of {', '.join(PEER_SERVERS)}"
        )
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="per number of clients and round")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--peers", type=chosen, default=list(PEER_SERVERS))
    parser.add_argument(
        "--memory-requests", type=int, default=1000, help="before memory is read; 0: not read"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        build_artifact(base, options.arch)
        measured: dict[str, list[Figures]] = {}
        for number in range(options.rounds):
            # Once is enough for memory, and it is most of the requests.
            remembered = options.memory_requests if number == options.rounds - 1 else 0

            def add(name: str, figures: Figures, number: int = number) -> None:
                measured.setdefault(name, []).append(figures)
                print(f"round {number + 1}, {name}: {figures}", flush=True)

            for contender in contenders(base, options.peers):
                add(contender.name, measure(contender, options.seconds, remembered))
                if contender.name.startswith("serve"):
                    precision = contender.name.removeprefix("serve").strip() or "float32"
                    add(f"alone {precision}", alone(base, precision, options.seconds))
        show(measured)


if __name__ == "__main__":
    main()
