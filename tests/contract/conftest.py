"""A harness that runs the container as SageMaker does, on several platforms.

`process` runs the `train` and `serve` commands as local processes with SAGEMAKER_BASE_DIR; `docker`
runs the built image with SageMaker's mounts. A test that uses the `platform` fixture runs on both.
Serving tests that are parametrised with WHAT_SERVES also run on `slim`, the image of the build
target `serve`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests

QUICK = {
    "arch": "squeezenet1_1",
    "weights": "none",
    "image_size": "32",
    "epochs": "1",
    "batch_size": "8",
    "workers": "0",
}
"""Hyperparameters of a job that takes seconds; the network has the fewest layers to convert."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Threads of jobs that run in parallel would spin while they wait for each other."""
PROBE = """
import json, os, pathlib
from container import train

def main():
    train.main()
    found = {name: value for name, value in os.environ.items() if name.startswith("SM_")}
    path = pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "variables.json")
    path.write_text(json.dumps(found))
"""
WHAT_SERVES = [
    "process",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("slim", marks=pytest.mark.docker),
]
"""Every `platform` that can serve, for tests that do not train themselves."""
PING_LIMIT = 2
"""Seconds that SageMaker waits for an answer from /ping."""


@dataclass
class Tree:
    """A training job's /opt/ml on this machine."""

    root: Path

    @classmethod
    def make(
        cls,
        root: Path,
        hyperparameters: Mapping[str, str],
        channels: Mapping[str, Path],
        *,
        mode: str = "File",
    ) -> "Tree":
        config = root / "input" / "config"
        config.mkdir(parents=True)
        for folder in ("model", "output/data", "checkpoints", "input/data"):
            (root / folder).mkdir(parents=True)
        for name, source in channels.items():
            shutil.copytree(source, root / "input" / "data" / name)
        declared = {
            name: {
                "TrainingInputMode": mode,
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
            for name in channels
        }
        resources = {
            "current_host": "algo-1",
            "hosts": ["algo-1"],
            "network_interface_name": "eth0",
            "current_instance_type": "ml.m5.large",
            "instance_groups": [
                {
                    "instance_group_name": "homogeneousCluster",
                    "instance_type": "ml.m5.large",
                    "hosts": ["algo-1"],
                }
            ],
        }
        tree = cls(root)
        tree.configure(hyperparameters)
        (config / "inputdataconfig.json").write_text(json.dumps(declared))
        (config / "resourceconfig.json").write_text(json.dumps(resources))
        return tree

    def configure(self, hyperparameters: Mapping[str, str]) -> None:
        path = self.root / "input" / "config" / "hyperparameters.json"
        path.write_text(json.dumps(dict(hyperparameters)))

    @property
    def failure(self) -> str | None:
        path = self.root / "output" / "failure"
        return path.read_text() if path.exists() else None

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def output(self) -> Path:
        return self.root / "output" / "data"

    @property
    def checkpoints(self) -> list[Path]:
        return sorted((self.root / "checkpoints").glob("checkpoint-*.json"))

    def description(self) -> dict[str, Any]:
        return json.loads((self.model / "model.json").read_text())


@dataclass
class Result:
    """A finished training job: its exit status, log and tree."""

    code: int
    logs: str
    tree: Tree


class Running(Protocol):
    """A running command."""

    def logs(self) -> str: ...

    def signal(self, number: signal.Signals) -> None: ...

    def wait(self, timeout: float) -> int: ...

    def kill(self) -> None: ...


@dataclass
class Endpoint:
    """A started server: `url` is its address, `base` its /opt/ml."""

    url: str
    running: Running
    base: str = "/opt/ml"

    def ping(self) -> requests.Response | None:
        """The answer of /ping, or None if it is refused or exceeds PING_LIMIT."""
        try:
            return requests.get(f"{self.url}/ping", timeout=PING_LIMIT)
        except (requests.ConnectionError, requests.Timeout):
            return None

    def until_ready(self, limit: float = 120) -> list[requests.Response]:
        """Poll /ping until it returns 200; return all answers."""
        answers: list[requests.Response] = []
        end = time.monotonic() + limit
        while time.monotonic() < end:
            answer = self.ping()
            if answer is not None:
                answers.append(answer)
                if answer.status_code == 200:
                    return answers
            time.sleep(0.02)
        raise AssertionError(f"{self.url} was never ready:\n{self.running.logs()}")

    def invoke(
        self, body: bytes, content_type: str, path: str = "/invocations", **headers: str
    ) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(
            f"{self.url}{path}",
            data=body,
            headers={"Content-Type": content_type, **named},
            timeout=60,
        )


class Process:
    """Runs the commands as local processes, without Docker or root.

    `train` starts as a fork (see `preloaded`) unless the test sets PYTHONPATH.
    """

    name = "process"

    def __init__(self, scratch: Path, preloaded: Mapping[str, str]) -> None:
        self._scratch, self._preloaded = scratch, preloaded

    @contextmanager
    def start(
        self, tree: Tree, environment: Mapping[str, str] | None = None, **_: Any
    ) -> Iterator[Running]:
        variables = {
            "SAGEMAKER_TRAINING_MODULE": "container.train:main",
            "TRAINING_JOB_NAME": "contract",
            **ONE_THREAD,
            **self._preloaded,
        }
        running = self._run("train", tree.root, {**variables, **(environment or {})})
        try:
            yield running
        finally:
            running.kill()

    def train(self, tree: Tree, environment: Mapping[str, str] | None = None) -> Result:
        with self.start(tree, environment) as running:
            return Result(running.wait(300), running.logs(), tree)

    @contextmanager
    def serve(
        self, model: Path, environment: Mapping[str, str] | None = None, *, place: str = "model"
    ) -> Iterator[Endpoint]:
        """Serve `model`, linked as `place` in /opt/ml."""
        base = self._scratch / f"serve-{time.monotonic_ns()}"
        base.mkdir()
        (base / place).symlink_to(model)
        variables = dict(environment or {})
        port = variables.setdefault("SAGEMAKER_BIND_TO_PORT", str(_free_port()))
        running = self._run("serve", base, variables)
        try:
            yield Endpoint(f"http://127.0.0.1:{port}", running, str(base))
        finally:
            running.kill()

    def _run(self, command: str, base: Path, environment: Mapping[str, str]) -> "_LocalProcess":
        binaries = Path(sys.executable).parent
        log = base / f"{command}-{time.monotonic_ns()}.log"
        variables = {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self._scratch),
            "PYTHONUNBUFFERED": "1",
            "SAGEMAKER_BASE_DIR": str(base),
            **environment,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binaries / command],
                env=variables,
                cwd=self._scratch,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _LocalProcess(process, log)


@dataclass
class _LocalProcess:
    process: "subprocess.Popen[bytes]"
    log: Path

    def logs(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float) -> int:
        return self.process.wait(timeout)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


class Docker:
    """Runs the built image with SageMaker's mounts and environment variables."""

    name = "docker"

    def __init__(self, engine: Any, image: str) -> None:
        self._engine = engine
        self._image = image

    @contextmanager
    def start(
        self,
        tree: Tree,
        environment: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] | None = ("train",),
        base: str = "/opt/ml",
        **options: Any,
    ) -> Iterator[Running]:
        """Train with inputs mounted read-only, no network, and Docker's default 64 MB /dev/shm."""
        running = self._run(
            command=list(command) if command else None,
            environment={"TRAINING_JOB_NAME": "contract", **ONE_THREAD, **(environment or {})},
            volumes={
                str(tree.root): {"bind": base, "mode": "rw"},
                str(tree.root / "input"): {"bind": f"{base}/input", "mode": "ro"},
            },
            network_mode="none",
            **options,
        )
        try:
            yield running
        finally:
            running.kill()
            self._hand_back(tree.root)

    def train(
        self, tree: Tree, environment: Mapping[str, str] | None = None, **options: Any
    ) -> Result:
        with self.start(tree, environment, **options) as running:
            return Result(running.wait(300), running.logs(), tree)

    @contextmanager
    def serve(
        self,
        model: Path,
        environment: Mapping[str, str] | None = None,
        *,
        place: str = "model",
        **options: Any,
    ) -> Iterator[Endpoint]:
        """Serve `model`, mounted read-only as `place` in /opt/ml."""
        variables = dict(environment or {})
        port = variables.get("SAGEMAKER_BIND_TO_PORT", "8080")
        running = self._run(
            command=["serve"],
            environment=variables,
            volumes={str(model): {"bind": f"/opt/ml/{place}", "mode": "ro"}},
            ports={f"{port}/tcp": ("127.0.0.1", None)},
            **options,
        )
        try:
            running.container.reload()
            published = running.container.ports[f"{port}/tcp"][0]["HostPort"]
            yield Endpoint(f"http://127.0.0.1:{published}", running)
        finally:
            running.kill()

    @contextmanager
    def command(self, words: Sequence[str], **options: Any) -> Iterator[Running]:
        """Run another command in the image."""
        running = self._run(command=list(words), **options)
        try:
            yield running
        finally:
            running.kill()

    def _run(self, **options: Any) -> "_Container":
        return _Container(self._engine.containers.run(self._image, detach=True, **options))

    def _hand_back(self, folder: Path) -> None:
        """Give the caller the files that a container wrote as root, so that it can delete them."""
        if os.getuid() != 0:
            self._engine.containers.run(
                self._image,
                ["chown", "-R", f"{os.getuid()}:{os.getgid()}", "/handed"],
                volumes={str(folder): {"bind": "/handed", "mode": "rw"}},
                network_mode="none",
                remove=True,
            )


class Slim(Docker):
    """Runs the serving image; its models are trained with the full image, `trainer`."""

    name = "slim"

    def __init__(self, engine: Any, image: str, trainer: Docker) -> None:
        super().__init__(engine, image)
        self.trainer = trainer


@dataclass
class _Container:
    container: Any
    _code: int | None = field(default=None)

    def logs(self) -> str:
        return self.container.logs().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.container.kill(signal=number.name)

    def wait(self, timeout: float) -> int:
        return int(self.container.wait(timeout=timeout)["StatusCode"])

    def kill(self) -> None:
        self.container.remove(force=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(
    scope="session", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def platform(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Process | Docker:
    if request.param in ("docker", "slim"):
        engine = request.getfixturevalue("engine")
        docker = Docker(engine, request.getfixturevalue("image"))
        if request.param == "docker":
            return docker
        return Slim(engine, request.getfixturevalue("serving_image"), docker)
    preloaded = request.getfixturevalue("preloaded")
    return Process(tmp_path_factory.mktemp("process"), preloaded)


@pytest.fixture(scope="session")
def channels(image_folder: Path) -> dict[str, Path]:
    return {name: image_folder / name for name in ("train", "validation")}


@pytest.fixture(scope="session")
def quick() -> dict[str, str]:
    return dict(QUICK)


@pytest.fixture(scope="session")
def trained(
    platform: Process | Docker,
    channels: dict[str, Path],
    once: Callable[[str, Callable[[Path], None]], Path],
) -> Result:
    """A completed training job whose module also records the toolkit's environment variables.

    It sets PYTHONPATH and so is not started as a fork.

    Tests must not write to its tree. The variables are in `variables.json` in its output.
    """

    trainer = platform.trainer if isinstance(platform, Slim) else platform

    def train(folder: Path) -> None:
        tree = Tree.make(folder / "ml", QUICK, channels)
        code = tree.root / "code"
        code.mkdir()
        (code / "probe.py").write_text(PROBE)
        variables = {
            "SAGEMAKER_TRAINING_MODULE": "probe:main",
            "PYTHONPATH": f"/opt/ml/code:{code}",
        }
        result = trainer.train(tree, variables)
        assert result.code == 0, result.logs
        (folder / "log").write_text(result.logs)

    folder = once(f"trained-{trainer.name}", train)
    return Result(0, (folder / "log").read_text(), Tree(folder / "ml"))


@pytest.fixture(scope="session")
def new_tree() -> Callable[..., Tree]:
    """new_tree(root, hyperparameters, channels): a new tree in the folder `root`."""
    return Tree.make


@pytest.fixture
def make_tree(tmp_path: Path, channels: dict[str, Path]) -> Callable[..., Tree]:
    """make_tree(hyperparameters, sources): a new tree; by default with QUICK and both channels."""

    def make(
        hyperparameters: Mapping[str, str] | None = None,
        sources: Mapping[str, Path] | None = None,
        **options: str,
    ) -> Tree:
        values = QUICK | dict(hyperparameters or {})
        sources = channels if sources is None else sources
        return Tree.make(tmp_path / "ml", values, sources, **options)

    return make


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """wait_for(condition, running): wait until the condition holds."""

    def wait(condition: Callable[[], object], running: Running, limit: float = 120) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"waited {limit} s in vain:\n{running.logs()}"
            time.sleep(0.05)

    return wait
