"""How fast and how small `serve` is beside the server most people write first.

    python tests/benchmarks/serving.py [--rounds 3] [--seconds 5] [--memory-requests 1000] [--ours]

All serve the same ResNet-50 with random weights from the same artifact, on the CPU, to the same
client: `serve`; `plain`, a plain server with a worker a core, as SageMaker's examples start it; and
`tuned`, the same told to use one thread a worker, better under load and worse without. Where the
processor has bfloat16, `serve bf16` and `plain bf16` compute in it, and `serve int8` in int8. With
`--ours` only `serve` in its precisions is measured. In every round each server is
started, timed until it predicts, asked one request at a time and four at a time, and stopped;
rounds alternate, so that what else the machine does meets all.

The table gives medians over rounds and, as what carries over to other machines, medians of the
ratios within a round.
"""

import argparse
import http.client
import io
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from container.artifact import Artifact

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 100


@dataclass(frozen=True)
class Contender:
    """One server: how to start it on a port."""

    name: str
    start: Callable[[int], "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Figures:
    """What one round measured.

    Seconds until ready; requests a second of one client and of four; milliseconds of processor
    time for a request, which a busy machine hardly changes; megabytes.
    """

    ready: float
    one: float
    four: float
    work: float
    memory: float | None


def build_artifact(base: Path, arch: str) -> None:
    import torch

    from container.architectures import build_network
    from container.artifact import Artifact
    from container.images.geometry import Geometry
    from container.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
    from container.models import Classifier
    from container.precisions import Bfloat16
    from container.training.export import write_artifact

    torch.manual_seed(0)
    network, _ = build_network(arch, CLASSES, image_size=224)
    artifact = Artifact(
        path=base / "model",
        arch=arch,
        stem="standard",
        head_hidden=(),
        dropout=0.0,
        image_size=224,
        classes=tuple(f"class {index}" for index in range(CLASSES)),
        geometry=Geometry.for_size(224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        export=None,
        provenance={},
        # Random weights have no accuracy to lose; without an entry bfloat16 would be refused.
        bfloat16=Bfloat16(0, 0.0, 0.0, 0.0, 0.0),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    written = write_artifact(artifact, Classifier(network), pixels, print)
    if written.openvino is None:
        sys.exit("the artifact has no export, so there is nothing to compare")
    quantize(written)


def quantize(artifact: "Artifact") -> None:
    """Add int8. Random weights have no accuracy to lose; what it costs is told as nothing."""
    from container.artifact import DESCRIPTION, OPENVINO_INT8, checksum
    from container.precisions import Int8

    pixels, into = artifact.path / "pixels.npy", artifact.path / OPENVINO_INT8
    np.save(pixels, np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8))
    into.parent.mkdir()
    command = ["-m", "container.training.quantization_process", str(artifact.openvino)]
    subprocess.run(
        [sys.executable, *command, str(pixels), "fast", str(into)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    pixels.unlink()
    sums = {f"openvino/int8/{file.name}": checksum(file) for file in into.parent.iterdir()}
    described = replace(
        artifact,
        int8=Int8(0, 0.0, 0.0, 0.0, 0.0, tolerance=0.0, calibration_images=16),
        checksums=(artifact.checksums or {}) | sums,
    )
    (artifact.path / DESCRIPTION).write_text(described.describe(), encoding="utf-8")


def picture() -> bytes:
    """A 500 x 375 JPEG of about the size of a photograph's."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375))
    noisy = np.asarray(coarse, np.float32) + rng.normal(0, 6, (375, 500, 3))
    data = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()


def contenders(base: Path, *, only_ours: bool) -> list[Contender]:
    """`serve`, and the plain server both ways: neither is the better one at every load."""
    from container.openvino_runtime import core

    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    cores = len(os.sched_getaffinity(0))

    def ours(**more: str) -> Callable[[int], "subprocess.Popen[bytes]"]:
        def start(port: int) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                [sys.executable, "-m", "serve"],
                env={
                    **environ,
                    "SAGEMAKER_BASE_DIR": str(base),
                    "SAGEMAKER_BIND_TO_PORT": str(port),
                    **more,
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        return start

    def plain(**more: str) -> Callable[[int], "subprocess.Popen[bytes]"]:
        def start(port: int) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
            command += ["--workers", str(cores), "--timeout", "120", "--no-control-socket"]
            return subprocess.Popen(
                [*command, "plain_server:app"],
                cwd=Path(__file__).parent,
                env={**environ, "MODEL_DIR": str(base / "model"), **more},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        return start

    found = [
        Contender("serve", ours()),
        Contender("plain", plain()),
        Contender("tuned", plain(OMP_NUM_THREADS="1")),
    ]
    can = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in can:
        found.append(Contender("serve bf16", ours(BERTH_PRECISION="bfloat16")))
        found.append(Contender("plain bf16", plain(BFLOAT16="1")))
    if "INT8" in can:
        found.append(Contender("serve int8", ours(BERTH_PRECISION="int8")))
    return [each for each in found if each.name.startswith("serve") or not only_ours]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def running(contender: Contender) -> Iterator[tuple["subprocess.Popen[bytes]", int, float]]:
    """The server's process, port, and seconds until its first 200 on /ping."""
    port, started = free_port(), time.perf_counter()
    process = contender.start(port)
    try:
        while not pinged(port):
            if process.poll() is not None or time.perf_counter() - started > 120:
                sys.exit(f"{contender.name}: did not become ready")
            time.sleep(0.005)
        yield process, port, time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def pinged(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def ask(port: int, body: bytes) -> None:
    # A connection each: gunicorn's plain worker, unlike ours, keeps none open.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read(500)!r}")
        response.read()
    finally:
        connection.close()


def load(port: int, body: bytes, clients: int, seconds: float) -> tuple[int, float]:
    """Answered requests, and seconds, of clients that each ask again as soon as answered."""
    started = time.perf_counter()

    def client() -> int:
        answered = 0
        while time.perf_counter() - started < seconds:
            ask(port, body)
            answered += 1
        return answered

    with ThreadPoolExecutor(clients) as pool:
        answered = sum(future.result() for future in [pool.submit(client) for _ in range(clients)])
    return answered, time.perf_counter() - started


def family(process: "subprocess.Popen[bytes]") -> list[Path]:
    """The process and all it started, as folders of /proc."""
    folders, found = [Path(f"/proc/{process.pid}")], []
    while folders:
        found.append(folders.pop())
        children = (found[-1] / "task" / found[-1].name / "children").read_text()
        folders += [Path(f"/proc/{pid}") for pid in children.split()]
    return found


def memory(process: "subprocess.Popen[bytes]") -> float:
    """Proportional set size of all its processes, in MB."""
    texts = [(folder / "smaps_rollup").read_text() for folder in family(process)]
    lines = (line for text in texts for line in text.splitlines() if line.startswith("Pss:"))
    return sum(int(line.split()[1]) for line in lines) / 1024


def cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    """User and system time of all its processes (proc(5): fields 14 and 15 of stat)."""
    stats = [(folder / "stat").read_text().rpartition(")")[2].split() for folder in family(process)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def measure(contender: Contender, body: bytes, seconds: float, remembered: int) -> Figures:
    with running(contender) as (process, port, ready):
        for clients in (1, 4):
            load(port, body, clients, seconds / 4)
        one, one_took = load(port, body, 1, seconds)
        before = cpu_seconds(process)
        four, four_took = load(port, body, 4, seconds)
        work = (cpu_seconds(process) - before) / four
        for _ in range(remembered):
            ask(port, body)
        used = memory(process) if remembered else None
        return Figures(ready, one / one_took, four / four_took, 1000 * work, used)


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("ready", "ready, s", "{:.2f}"),
    ("one", "1 client, /s", "{:.1f}"),
    ("four", "4 clients, /s", "{:.1f}"),
    ("work", "core ms each", "{:.1f}"),
    ("memory", "PSS, MB", "{:.0f}"),
)
RATIOS = (
    ("serve", "plain"),
    ("serve", "tuned"),
    ("serve bf16", "plain"),
    ("serve bf16", "plain bf16"),
    ("serve bf16", "serve"),
    ("serve int8", "serve"),
    ("serve int8", "serve bf16"),
)


def show(measured: dict[str, list[Figures]]) -> None:
    versions = [f"{name} {version(name)}" for name in ("openvino", "torch", "flask", "gunicorn")]
    cores = len(os.sched_getaffinity(0))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {platform.machine()}, {cores} cores", *versions, sep=", "
    )
    print(f"{'':24}", *(f"{title:>14}" for _, title, _ in COLUMNS))
    for name in measured:
        print(f"{name:24}", *(cell(style, values(measured, name, c)) for c, _, style in COLUMNS))
    for ours, other in RATIOS:
        if ours in measured and other in measured:
            pairs = [
                zip(values(measured, ours, c), values(measured, other, c), strict=True)
                for c, _, _ in COLUMNS
            ]
            print(
                f"{f'{ours} / {other}':24}",
                *(cell("{:.2f}", [a / b for a, b in column]) for column in pairs),
            )


def values(measured: dict[str, list[Figures]], name: str, column: str) -> list[float]:
    """One figure of every round that has it."""
    found = (getattr(figures, column) for figures in measured[name])
    return [value for value in found if value is not None]


def cell(style: str, column: list[float]) -> str:
    return f"{style.format(statistics.median(column)) if column else '':>14}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="per concurrency and round")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--ours", action="store_true", help="only `serve` in its precisions")
    parser.add_argument(
        "--memory-requests", type=int, default=1000, help="before memory is read; 0: not read"
    )
    options = parser.parse_args()
    body = picture()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        build_artifact(base, options.arch)
        measured: dict[str, list[Figures]] = {}
        for number in range(options.rounds):
            # Once is enough for memory, and it is most of the requests.
            remembered = options.memory_requests if number == options.rounds - 1 else 0
            for contender in contenders(base, only_ours=options.ours):
                figures = measure(contender, body, options.seconds, remembered)
                measured.setdefault(contender.name, []).append(figures)
                print(f"round {number + 1}, {contender.name}: {figures}", flush=True)
        show(measured)


if __name__ == "__main__":
    main()
