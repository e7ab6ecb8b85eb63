"""The image's two commands, `train` and `serve`, as plain processes on this machine.

What SageMaker would mount under `/opt/ml` is a folder of the user's: `SAGEMAKER_BASE_DIR` tells
both commands. Nothing here needs Docker, root or AWS.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

START_SECONDS = 60.0
"""How long a server may take to its first healthy ping."""
STOP_SECONDS = 30.0
"""SageMaker's time between SIGTERM and SIGKILL for a serving container."""


class ProcessError(Exception):
    """A command failed; the message says which and why, in one line."""


def write_tree(base: Path, channels: list[str], hyperparameters: Mapping[str, object]) -> None:
    """Write the configuration SageMaker gives a training container, every value a string.

    The channels' data belongs in `base/input/data/<channel>`.
    """
    config = base / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    files = {
        "hyperparameters": {name: str(value) for name, value in hyperparameters.items()},
        "inputdataconfig": {
            name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
            for name in channels
        },
        "resourceconfig": {
            "current_host": "algo-1",
            "hosts": ["algo-1"],
            "network_interface_name": "lo",
        },
    }
    for name, value in files.items():
        (config / f"{name}.json").write_text(json.dumps(value, indent=2), encoding="utf-8")


def train(base: Path) -> None:
    """Run a training job in `base`, its log on this process's output.

    Raises:
        ProcessError: it did not end with status 0; the line is its `output/failure`'s first.
    """
    environment = _environment(base) | {"SAGEMAKER_TRAINING_MODULE": "container.train:main"}
    status = subprocess.run([_command("train")], env=environment, check=False).returncode
    if status:
        failure = base / "output" / "failure"
        why = failure.read_text(encoding="utf-8").partition("\n")[0] if failure.exists() else ""
        raise ProcessError(f"training ended with status {status}: {why or 'see its log'}")


@contextmanager
def serve(base: Path) -> Iterator[str]:
    """Serve `base/model` while the block runs; gives the server's URL.

    Raises:
        ProcessError: the server ended, or was not healthy within a minute.
    """
    port = _free_port()
    environment = _environment(base) | {"SAGEMAKER_BIND_TO_PORT": str(port)}
    server = subprocess.Popen([_command("serve")], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(server, url)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    state = "no answer"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ProcessError(f"the server ended with status {server.returncode}: see its log")
        try:
            answer = requests.get(f"{url}/ping", timeout=2)
            if answer.status_code == 200:
                return
            state = answer.text.strip()
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise ProcessError(f"the server was not healthy within {START_SECONDS:.0f} s: {state}")


def _environment(base: Path) -> dict[str, str]:
    return dict(os.environ) | {"SAGEMAKER_BASE_DIR": str(base), "PYTHONUNBUFFERED": "1"}


def _command(name: str) -> str:
    """A console script of this very Python environment."""
    return str(Path(sys.executable).parent / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
