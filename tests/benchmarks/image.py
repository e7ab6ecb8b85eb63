"""How soon the image serves after `docker run`, and how much memory it takes.

    python tests/benchmarks/image.py [--image berth:latest] [--rounds 5] [--requests 1000]

Every round runs two containers of the image in turn: one that serves a ResNet-50 with random
weights, timed from `docker run` to the first 200 on /ping, and one that only imports PyTorch, as
any server built on it must, timed until it ends. Memory is the proportional set size of the serving
container's processes after the last round's requests.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from serving import ask, build_artifact, free_port, picture, pinged

import docker


def serve(engine: Any, image: str, model: Path, port: int) -> tuple[Any, float]:
    """The container, and seconds until it was ready."""
    started = time.perf_counter()
    container = engine.containers.run(
        image,
        ["serve"],
        detach=True,
        volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
        ports={"8080/tcp": ("127.0.0.1", port)},
    )
    while not pinged(port):
        if time.perf_counter() - started > 60:
            container.remove(force=True)
            sys.exit("the container did not become ready within a minute")
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
    parser.add_argument("--image", default="berth:latest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000, help="before memory is read")
    options = parser.parse_args()
    try:
        engine = docker.from_env()
        engine.images.get(options.image)
    except docker.errors.DockerException as error:
        print(f"not measured: no Docker engine with {options.image} ({error})")
        return
    body, ready, imported = picture(), [], []
    with tempfile.TemporaryDirectory() as folder:
        build_artifact(Path(folder), "resnet50")
        for number in range(options.rounds):
            port = free_port()
            container, seconds = serve(engine, options.image, Path(folder) / "model", port)
            try:
                ready.append(seconds)
                if number == options.rounds - 1:
                    for _ in range(options.requests):
                        ask(port, body)
                    used = memory(container)
            finally:
                container.remove(force=True)
            imported.append(import_torch(engine, options.image))
            print(f"round {number + 1}: ready {ready[-1]:.2f} s, torch {imported[-1]:.2f} s")
    print(json.dumps({
        "median seconds to the first 200": round(statistics.median(ready), 2),
        "median seconds to import torch": round(statistics.median(imported), 2),
        "ratio": round(statistics.median(ready) / statistics.median(imported), 2),
        f"MB (PSS) after {options.requests} requests": round(used),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
