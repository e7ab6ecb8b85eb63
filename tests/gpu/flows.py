"""What `make gpu` does on a GPU, and its unit tests do on a CPU: whole jobs, and a server.

Every job is a process of its own, so that none finds the GPU as another has left it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from trees import write_tree

ROOT = Path(__file__).parents[2]
COLOURS = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}
PICTURES = {"train": 64, "validation": 16}
SIDE = 96
DEFAULTS: Mapping[str, object] = {
    "arch": "resnet18",
    "weights": "none",
    "image_size": 64,
    "batch_size": 32,
    "epochs": 6,
    "learning_rate": 0.01,
    "workers": 2,
}
UNEXPORTED = "from container import train; train.main(export=False)"
"""A job whose model is not converted, as OpenVINO is not on every machine with a GPU."""
SECONDS = 300.0
"""A whole job or the start of a server may take so long: cuDNN is loaded and tuned."""


def write_job(base: Path, hyperparameters: Mapping[str, object]) -> None:
    """Write a job's tree: pictures of three colours, and the configuration."""
    noise = np.random.default_rng(0)
    for channel, count in PICTURES.items():
        for name, colour in COLOURS.items():
            folder = base / "input" / "data" / channel / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) + noise.integers(-50, 51, (SIDE, SIDE, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / f"{number}.jpg", quality=90)
    configure(base, hyperparameters)


def configure(base: Path, hyperparameters: Mapping[str, object]) -> None:
    """Write the job's configuration; `DEFAULTS` for what is not given."""
    write_tree(base, list(PICTURES), {**DEFAULTS, **hyperparameters})


def environment(base: Path, **more: str) -> dict[str, str]:
    """The environment of a job or server on the tree at `base`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    given = {"SAGEMAKER_BASE_DIR": str(base), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    return kept | given | more


@dataclass(frozen=True)
class Trained:
    """A job that came to its end.

    Attributes:
        base: its tree.
        log: what it printed.
        seconds: the whole process.
        description: `model.json`.
        epochs: the records of `metrics.jsonl`.
    """

    base: Path
    log: str
    seconds: float
    description: dict[str, Any]
    epochs: list[dict[str, Any]]

    @property
    def device(self) -> str:
        """The device's name, and the number of processes."""
        return str(self.description["provenance"]["device"])

    @property
    def accuracy(self) -> float:
        """Of the kept epoch, on the validation images."""
        return float(self.description["provenance"]["validation_accuracy"])


def train(base: Path, *, exported: bool = False) -> Trained:
    """Run the job in the tree to its end.

    Args:
        base: the tree.
        exported: also convert the model, which needs OpenVINO.

    Raises:
        AssertionError: it failed; with the end of its log.
    """
    words = ["-m", "container.train"] if exported else ["-c", UNEXPORTED]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *words],
        env=environment(base),
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout[-2000:]
    return _left(base, done.stdout, seconds)


def interrupt(base: Path, line: str) -> str:
    """Run the job, send it SIGTERM once it prints a line that begins so; gives its log.

    Raises:
        AssertionError: it did not end as an interrupted job does.
    """
    with subprocess.Popen(
        [sys.executable, "-c", UNEXPORTED],
        env=environment(base),
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for printed in process.stdout:
            said.append(printed)
            if printed.startswith(line):
                process.send_signal(signal.SIGTERM)
                break
        said += process.stdout.readlines()
        process.wait(SECONDS)
    log = "".join(said)
    assert process.returncode != 0, log[-2000:]
    failure = (base / "output" / "failure").read_text(encoding="utf-8")
    assert failure.startswith("stopped by SIGTERM"), failure
    return log


def _left(base: Path, log: str, seconds: float) -> Trained:
    lines = (base / "output" / "data" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return Trained(
        base,
        log,
        seconds,
        json.loads((base / "model" / "model.json").read_text(encoding="utf-8")),
        [json.loads(line) for line in lines],
    )


@contextmanager
def serve(base: Path) -> Iterator[str]:
    """A server of the tree's model, ready to answer; gives its address.

    Raises:
        AssertionError: it ended, or was not ready in time; with the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    given = environment(base, SAGEMAKER_BIND_TO_PORT=str(port), BERTH_BIND_HOST="127.0.0.1")
    log = base / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve"], env=given, cwd=base, stdout=out, stderr=out
        )
    try:
        end = time.monotonic() + SECONDS
        while not _is_ready(address):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(SECONDS)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, picture: bytes) -> list[float]:
    """The probabilities that a server answers for a JPEG."""
    request = urllib.request.Request(
        f"{address}/invocations",
        data=picture,
        headers={
            "Content-Type": "image/jpeg",
            "Accept": "application/json",
            "X-Amzn-SageMaker-Custom-Attributes": f"top_k={len(COLOURS)}",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answered = json.loads(answer.read())
    return [float(each["probability"]) for each in answered["predictions"][0]["top"]]


def golden(base: Path) -> tuple[bytes, list[float]]:
    """The job's golden image, and the model's probabilities for it, highest first."""
    output = base / "output" / "data"
    kept = json.loads((output / "evaluation.json").read_text(encoding="utf-8"))["golden"]
    probabilities = [float(each["probability"]) for each in kept["predictions"]]
    return (output / kept["file"]).read_bytes(), probabilities
