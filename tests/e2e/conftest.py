"""Fixtures that run training jobs as SageMaker starts them, as local processes."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trees import write_tree

HOSTS = ("127.0.0.1", "127.0.0.2")
"""Two loopback addresses of this machine."""
SMALL_NETWORK = {
    "arch": "shufflenet_v2_x0_5",
    "weights": "none",
    "image_size": 32,
    "batch_size": 8,
    "workers": 1,
}
"""It has a third of a million parameters, so a checkpoint after every step is cheap."""


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{train,validation}/{across,down}/*.png: 48 and 8 noisy images of each direction."""
    root = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(3)
    wave = np.sin(np.arange(32) * 0.8)
    for split, count in (("train", 48), ("validation", 8)):
        for name, pattern in (("across", wave[None, :]), ("down", wave[:, None])):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                grey = 128 + 60 * pattern + random.normal(0, 25, (32, 32))
                pixels = np.repeat(grey[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


class Job:
    """A training job's tree and its `train` process, which runs `module`.

    With the variables of `preloaded` the process starts as a fork, with an empty mapping normally.
    """

    def __init__(self, base: Path, module: str, preloaded: Mapping[str, str]) -> None:
        self.base, self.module, self.preloaded = base, module, preloaded
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "train"],
            env=os.environ
            | dict(self.preloaded)
            | {
                "SAGEMAKER_BASE_DIR": str(self.base),
                "SAGEMAKER_TRAINING_MODULE": self.module,
                "PYTHONPATH": os.pathsep.join(
                    [*filter(None, [self.preloaded.get("PYTHONPATH")]), str(Path(__file__).parent)]
                ),
                "PYTHONUNBUFFERED": "1",
                # These networks are too small for a second thread to help.
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self.process

    def run(self) -> str:
        """Train to the end and return the log; the job must succeed."""
        process = self.start()
        log, _ = process.communicate(timeout=300)
        assert process.returncode == 0, log
        return log

    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint."""
        found = (self.base / "checkpoints").glob("checkpoint-*.json")
        return sorted(int(path.stem.partition("-")[2]) for path in found)

    def wait_for_step(self, step: int) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 120
        while not self.steps() or self.steps()[-1] < step:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def counters(self, step: int) -> dict[str, object]:
        path = self.base / "checkpoints" / f"checkpoint-{step:08d}.json"
        return json.loads(path.read_text())["counters"]["progress"]

    @property
    def weights(self) -> bytes:
        return (self.base / "model" / "model.safetensors").read_bytes()

    @property
    def metrics(self) -> list[dict[str, float]]:
        text = (self.base / "output" / "data" / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    @property
    def failure(self) -> str:
        return (self.base / "output" / "failure").read_text()


@pytest.fixture
def make_job(
    tmp_path: Path, stripes: Path, preloaded: dict[str, str]
) -> Iterator[Callable[..., Job]]:
    """make_job(name, hyperparameters, module=...): a job whose process is killed after the test.

    With `fresh=True` its processes are not forks and import everything themselves.
    """
    jobs: list[Job] = []

    def make(
        name: str,
        hyperparameters: Mapping[str, object],
        module: str = "container.train:main",
        *,
        fresh: bool = False,
    ) -> Job:
        base = tmp_path / name
        (base / "input" / "data").mkdir(parents=True)
        for channel in ("train", "validation"):
            (base / "input" / "data" / channel).symlink_to(stripes / channel)
        write_tree(base, ["train", "validation"], SMALL_NETWORK | dict(hyperparameters))
        jobs.append(Job(base, module, {} if fresh else preloaded))
        return jobs[-1]

    yield make
    for job in jobs:
        if job.process is not None:
            if job.process.poll() is None:
                job.process.kill()
                job.process.wait()
            if job.process.stdout is not None:
                job.process.stdout.close()


@pytest.fixture
def make_two_hosts(
    make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, Mapping[str, object]], list[Job]]]:
    """make_two_hosts(name, hyperparameters): the jobs of both hosts, rank 0's first.

    Hosts use a fixed port, as on SageMaker, where each job has its own network. Here all tests
    share one network, so tests with two hosts run one at a time across all workers.
    """

    def make(name: str, hyperparameters: Mapping[str, object]) -> list[Job]:
        jobs = []
        for host in HOSTS:
            job = make_job(f"{name}-{host}", hyperparameters)
            config = {"current_host": host, "hosts": list(HOSTS), "network_interface_name": "lo"}
            (job.base / "input" / "config" / "resourceconfig.json").write_text(json.dumps(config))
            jobs.append(job)
        return jobs

    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (root / "two-hosts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield make
