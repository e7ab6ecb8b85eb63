"""How soon the images serve after `docker run`, and how much memory they take.

    python tests/benchmarks/image.py [IMAGE ...] [--rounds 5] [--requests 1000]

The images are berth:latest and berth:serve unless named. Every round runs in turn a container of
each that serves a ResNet-50 with random weights, timed from `docker run` to its first prediction,
and one of the first image that only imports PyTorch, as any server built on it must, timed until it
ends. Memory is the proportional set size of the container's processes after the last round's
requests.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from servers.artifact import build_artifact
from servers.contenders import ours
from servers.process import free_port
from servers.traffic import ask

import docker

PHOTOGRAPH = ours(Path(), "float32")


def serve(engine: Any, image: str, model: Path, port: int) -> tuple[Any, float]:
    """The container, and seconds until it predicted."""
    started = time.perf_counter()
    container = engine.containers.run(
        image,
        ["serve"],
        detach=True,
        volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
        ports={"8080/tcp": ("127.0.0.1", port)},
    )
    while not PHOTOGRAPH.answers(port):
        if time.perf_counter() - started > 60:
            container.remove(force=True)
            sys.exit(f"{image}: the container did not become ready within a minute")
        time.sleep(0.005)
    return container, time.perf_counter() - started


def import_torch(engine: Any, image: str) -> float:
    started = time.perf_counter()
    engine.containers.run(image, ["python", "-c", "import torch, flask"], remove=True)
    return time.perf_counter() - started


def memory(container: Any) -> float:
    """Proportional set size of the container's processes, in MB; needs to read their /proc."""
    listed = container.top(ps_args="-o pid")["Processes"]
    total = 0
    for (pid,) in listed:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(ln.split()[1]) for ln in text.splitlines() if ln.startswith("Pss:"))
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", nargs="*", default=["berth:latest", "berth:serve"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000, help="before memory is read")
    options = parser.parse_args()
    try:
        engine = docker.from_env()
        for image in options.images:
            engine.images.get(image)
    except docker.errors.DockerException as error:
        print(f"not measured: no Docker engine with {', '.join(options.images)} ({error})")
        return
    ready: defaultdict[str, list[float]] = defaultdict(list)
    used: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        build_artifact(Path(folder), "resnet50")
        for number in range(1, options.rounds + 1):
            for image in options.images:
                port = free_port()
                container, seconds = serve(engine, image, Path(folder) / "model", port)
                try:
                    ready[image].append(seconds)
                    if number == options.rounds:
                        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                        for _ in range(options.requests):
                            ask(connection, PHOTOGRAPH.request())
                        used[image] = memory(container)
                finally:
                    container.remove(force=True)
            ready["import torch"].append(import_torch(engine, options.images[0]))
            print(f"round {number}:", {name: round(taken[-1], 2) for name, taken in ready.items()})
    for image in options.images:
        pairs = zip(ready[image], ready["import torch"], strict=True)
        print(
            f"{image}: {statistics.median(ready[image]):.2f} s to the first prediction, "
            f"{statistics.median(a / b for a, b in pairs):.2f} of PyTorch's import; "
            f"{used[image]:.0f} MB (PSS) after {options.requests} requests"
        )


if __name__ == "__main__":
    main()
